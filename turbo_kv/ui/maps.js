// Says the token and the weight under the pointer, in all three maps at once. Arrow keys move it;
// with Shift by sixteen. Listeners sit on the root: updates replace what is below it.
let read = { of: null };

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// The weights of the maps on screen, exact and packed; unpacked once.
async function values(maps) {
  if (read.of === maps.dataset.weights) return read;
  const { weights, tokens, queries, keys, firstKey } = maps.dataset;
  const stream = new Blob([bytes(weights)]).stream().pipeThrough(new DecompressionStream('deflate'));
  const packed = new Uint8Array(await new Response(stream).arrayBuffer());
  const half = packed.length / 2;
  const bits = new Uint32Array(half);
  for (let i = 0; i < half; i += 1) bits[i] = (packed[i] << 24) | (packed[half + i] << 16);
  read = {
    of: weights,
    weights: new Float32Array(bits.buffer),
    tokens: JSON.parse(new TextDecoder().decode(bytes(tokens))),
    rows: Number(queries),
    columns: Number(keys),
    firstKey: Number(firstKey),
  };
  return read;
}

const quoted = (token) => `“${token.replaceAll('\n', '↵').replaceAll(' ', '␣')}”`;

// A sentence of the page's language with its {parts} put in.
const say = (sentence, parts) => sentence.replace(/\{(\w+)\}/g, (_, name) => parts[name]);

async function point(maps, row, column) {
  const { weights, tokens, rows, columns, firstKey } = await values(maps);
  row = Math.min(Math.max(row, 0), rows - 1);
  column = Math.min(Math.max(column, 0), columns - 1);
  maps.dataset.row = row;
  maps.dataset.column = column;
  maps.style.setProperty('--row', `${(100 * (row + 0.5)) / rows}%`);
  maps.style.setProperty('--column', `${(100 * (column + 0.5)) / columns}%`);
  maps.classList.add('pointed');
  const at = row * columns + column;
  const [exact, after] = [weights[at], weights[rows * columns + at]];
  const query = firstKey + columns - rows + row;
  const key = firstKey + column;
  const said = JSON.parse(maps.dataset.said);
  const weight = (value) => (value < 1e-4 ? said.under : value.toPrecision(2));
  const sentence = key > query ? said.future : said.weights;
  maps.parentElement.querySelector('.map-readout').textContent = say(sentence, {
    query: `${query.toLocaleString('en')} ${quoted(tokens[0][row])}`,
    key: `${key.toLocaleString('en')} ${quoted(tokens[1][column])}`,
    exact: weight(exact),
    packed: weight(after),
  });
}

function pointed(event) {
  const picture = event.target.closest('.map-frame img');
  if (!picture) return;
  const maps = picture.closest('.maps');
  const box = picture.getBoundingClientRect();
  const row = Math.floor(((event.clientY - box.top) / box.height) * maps.dataset.queries);
  const column = Math.floor(((event.clientX - box.left) / box.width) * maps.dataset.keys);
  point(maps, row, column);
}

element.addEventListener('pointermove', pointed);
element.addEventListener('pointerdown', pointed);
element.addEventListener('keydown', (event) => {
  const maps = event.target.closest('.maps');
  const step = event.shiftKey ? 16 : 1;
  const [down, right] = {
    ArrowDown: [step, 0], ArrowUp: [-step, 0], ArrowRight: [0, step], ArrowLeft: [0, -step],
  }[event.key] ?? [];
  if (!maps || down === undefined) return;
  event.preventDefault();
  const { queries, keys, row = queries - 1, column = keys - 1 } = maps.dataset;
  point(maps, Number(row) + down, Number(column) + right);
});
