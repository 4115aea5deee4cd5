// One heatmap: roving tabindex, arrows, Home and End, Enter or Space or a click to select.
// Gradio runs this once; updates of equal shape keep the nodes, so listeners sit on the root.
const cells = () => Array.from(element.querySelectorAll('[role=gridcell]'));
const busy = () => element.querySelector('[aria-busy=true]') !== null;

function select(cell) {
  if (!busy()) trigger('select', { index: [Number(cell.dataset.layer), Number(cell.dataset.head)], value: null });
}

function focus(cell) {
  cells().forEach((other) => { other.tabIndex = other === cell ? 0 : -1; });
  cell.focus();
}

element.addEventListener('click', (event) => {
  const cell = event.target.closest('[role=gridcell]');
  if (cell) { focus(cell); select(cell); }
});

element.addEventListener('keydown', (event) => {
  const cell = event.target.closest('[role=gridcell]');
  if (!cell) return;
  const all = cells();
  const width = Number(cell.closest('[role=grid]').dataset.layers);
  const at = all.indexOf(cell);
  const row = at - (at % width);
  const to = {
    ArrowRight: Math.min(at + 1, row + width - 1),
    ArrowLeft: Math.max(at - 1, row),
    ArrowDown: at + width < all.length ? at + width : at,
    ArrowUp: at >= width ? at - width : at,
    Home: row,
    End: row + width - 1,
  }[event.key];
  if (to !== undefined) { event.preventDefault(); focus(all[to]); }
  if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); select(cell); }
});
