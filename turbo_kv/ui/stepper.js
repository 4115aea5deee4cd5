// The lessons' steps: a click, Enter or Space opens one; the address follows, so that it can be
// shared. Gradio runs this once; updates keep the nodes.
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-step]');
  if (button) trigger('select', { index: Number(button.dataset.step), value: null });
});

watch('value', () => {
  const address = new URL(window.location);
  address.searchParams.set('lesson', props.value.at + 1);
  window.history.replaceState(null, '', address);
});
