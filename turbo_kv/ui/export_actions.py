"""What happens on a download and when a link with settings is opened.

Plain functions of a session, as in `actions`; nothing here measures a text anew.
"""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from turbo_kv.ui import (
    engine,
    export,
    export_bar,
    form,
    limits,
    overview,
    permalink,
    run_tab,
    status,
)
from turbo_kv.ui.engine import Captures, Map
from turbo_kv.ui.language import say, speaking
from turbo_kv.ui.precomputed import Precomputed
from turbo_kv.ui.session import Session
from turbo_kv.ui.wording import listed

Updates = dict[str, Any]


class ExportActions:
    """The actions of one server; `captures` are those its runs keep."""

    def __init__(self, host: limits.Limits, stored: Precomputed, captures: Captures) -> None:
        self._host = host
        self._stored = stored
        self._captures = captures

    def download(self, session: Session | None, event: gr.SelectData) -> Updates:
        """Hand over one file of the shown result."""
        session = session or self._stored.session
        name = str(event.value)
        stored = session.precomputed and session.config in self._stored.session.runs
        stamp = self._stored.stamp if stored else engine.stamp()
        with_map = name == "report.html" or name.startswith(export.MAP)
        measured = self._map(session) if with_map else None
        try:
            with speaking("en"):  # files are read by anybody
                content = export.make(name, session, stamp, measured)
        except ValueError as error:
            return {"export": export_bar.refused(session, error)}
        return {"export": export_bar.with_file(session, name, content)}

    def open_link(self, query: Mapping[str, str]) -> Updates:
        """The form as a link says, on the result that was there before."""
        first = self._stored.session
        if not set(query) & set(permalink.PARAMETERS):
            return {}
        session, request, ignored = permalink.read(query, first, self._host)
        said = say("link.set")
        if request != session.request:
            said += say("link.run")
        if ignored:
            said += say("link.ignored", names=listed(ignored))
        drawn = {}
        if session != first:
            drawn = overview.render(session) | run_tab.render(session) | {"session": session}
            measured = self._map(session)
            if measured is not None:
                drawn |= run_tab.maps(session, measured)
        fields = form.values(request.config)
        fields |= {"model": request.model, "context": request.context, "source": request.source}
        return drawn | fields | {"status": status.html(status.READY, said)}

    def _map(self, session: Session) -> Map | None:
        """The selected head's attention if it is stored or its text is still captured."""
        layer, head = session.selected
        stored = self._stored.maps.get((session.config, layer, head))
        if session.precomputed and stored is not None:
            return stored
        prepared = self._captures.find(session.request)
        if prepared is None:
            return None
        return engine.attention_map(prepared, session.config, layer, head)
