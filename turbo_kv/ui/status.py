"""The status line: where a run is, that it is done, stopped or failed. Announced as it changes."""

from html import escape

READY = "ready"
BUSY = "busy"
DONE = "done"
FAILED = "failed"


def html(kind: str, text: str, fraction: float = 0.0) -> str:
    """One line with a bar while busy; the text is shown as text, whatever it contains."""
    bar = f'<progress max="1" value="{fraction:.3f}" aria-hidden="true"></progress>'
    return (
        f'<div class="status status-{kind}" role="status" aria-live="polite">'
        f"{bar if kind == BUSY else ''}<span>{escape(text)}</span></div>"
    )


def alert(message: str, note: bool = False) -> str:
    """A message under a field; empty for none. A note informs, anything else is an error."""
    if not message:
        return ""
    kind, role = ("note", "note") if note else ("error", "alert")
    return f'<p class="field-{kind}" role="{role}">{escape(message)}</p>'
