// Painting heatmaps: what the library's own overlays look like, without its code.

const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

// Where each of `size` pixels lies between the `length` cells: pixel centres at halves, the outermost cells go on.
const between = (size, length) => Array.from({ length: size }, (_, index) => {
  const centre = Math.min(Math.max((index + 0.5) * length / size - 0.5, 0), length - 1);
  const low = Math.floor(centre);
  return [low, Math.min(low + 1, length - 1), centre - low];
});

// Upsample `cells` (0..255, row by row, `[rows, columns]`) bilinearly and paint them; `solid` hides what lies behind.
const paint = (canvas, cells, [rows, columns], width, height, colours, solid) => {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  const pixels = image.data, across = between(width, columns);
  let at = 0;
  for (const [top, bottom, down] of between(height, rows)) {
    for (const [left, right, along] of across) {
      const above = cells[top * columns + left] * (1 - along) + cells[top * columns + right] * along;
      const below = cells[bottom * columns + left] * (1 - along) + cells[bottom * columns + right] * along;
      const colour = 4 * Math.round(above + (below - above) * down);
      pixels[at++] = colours[colour];
      pixels[at++] = colours[colour + 1];
      pixels[at++] = colours[colour + 2];
      pixels[at++] = solid ? 255 : colours[colour + 3];
    }
  }
  context.putImageData(image, 0, 0);
};

// The size with `longest` as its longer side that has the shape of `[width, height]`.
const fit = ([width, height], longest) => {
  const scale = longest / Math.max(width, height);
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
};
