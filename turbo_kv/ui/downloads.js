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
    said.textContent = said.dataset.copied;
  } catch {
    getSelection().selectAllChildren(source); // no clipboard without https: ready for Ctrl+C
    said.textContent = said.dataset.selected;
  }
}

watch('value', async () => {
  const file = props.value.file;
  if (!file) return;
  const bytes = Uint8Array.from(atob(file.data), (letter) => letter.charCodeAt(0));
  let blob = new Blob([bytes], { type: file.type });
  if (file.type === 'image/svg+xml' && file.name.endsWith('.png')) blob = await painted(blob);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});

async function painted(drawing) {
  const picture = new Image();
  picture.src = URL.createObjectURL(drawing);
  await picture.decode();
  const canvas = document.createElement('canvas');
  canvas.width = 1600;
  canvas.height = Math.round((1600 * picture.naturalHeight) / picture.naturalWidth);
  const context = canvas.getContext('2d');
  context.fillStyle = '#ffffff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(picture.src);
  return new Promise((done) => canvas.toBlob(done, 'image/png'));
}
