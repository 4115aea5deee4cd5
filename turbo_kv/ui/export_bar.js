// Download buttons and copy buttons. A button asks the server for its file; what comes back in
// `value.file` is saved by the browser, so that no file stays on the server.
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.file) trigger('select', { index: 0, value: button.dataset.file });
  if (button.dataset.copy) copy(button);
});

async function copy(button) {
  const source = element.querySelector(`#${button.dataset.copy}`);
  const text = source.href || source.textContent;
  const said = element.querySelector('[role=status]');
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = 'Copied.';
  } catch {
    getSelection().selectAllChildren(source); // no clipboard without https: ready for Ctrl+C
    said.textContent = 'Selected: copy it with the keyboard.';
  }
}

watch('value', () => {
  const file = props.value.file;
  if (!file) return;
  const bytes = Uint8Array.from(atob(file.data), (letter) => letter.charCodeAt(0));
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([bytes], { type: file.type }));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
