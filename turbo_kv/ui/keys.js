// Arrow keys, Home and End move between tabs; Gradio gives each its place in the tab order only.
document.addEventListener('keydown', (event) => {
  const tab = event.target.closest?.('[role=tab]');
  if (!tab) return;
  const tabs = [...tab.closest('[role=tablist]').querySelectorAll('[role=tab]')];
  const at = tabs.indexOf(tab);
  const to = {
    ArrowRight: (at + 1) % tabs.length,
    ArrowLeft: (at + tabs.length - 1) % tabs.length,
    Home: 0,
    End: tabs.length - 1,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  tabs[to].focus();
  tabs[to].click();
});

// A slider moved by keys is let go with the key, as one moved by a pointer is.
document.addEventListener('keyup', (event) => {
  if (event.target.matches?.('input[type=range]')) {
    event.target.dispatchEvent(new PointerEvent('pointerup', { bubbles: true }));
  }
});

// The page in another language opens where this one is.
document.addEventListener('click', (event) => {
  const link = event.target.closest?.('.languages a');
  if (!link) return;
  const address = new URL(window.location);
  address.searchParams.set('lang', link.lang);
  link.href = address.search;
});
