// What each panel of an open dashboard shows, read from the page: words with their colours, states of a state timeline,
// error badges, messages in place of data, and text that is cut off. Grafana's own test ids find the parts.
() => {
  const PANEL = '[data-testid^="data-testid Panel header "]';
  const ERROR = '[data-testid="data-testid Panel status error"], [aria-label="Panel status error"]';
  const LOADING = '[aria-label="Panel loading bar"], [data-testid="Panel loading bar"], [aria-label="Loading indicator"]';
  const MESSAGE = '[data-testid="data-testid Panel data error message"]';
  const CONTENT = '[data-testid="data-testid panel content"]';
  const TOLERANCE = 2; // pixels: fractions of a letter are not cut

  const numbers = (text) => (text.match(/rgba?\(([^)]+)\)/)?.[1] ?? '0, 0, 0, 0').split(',').map(Number);
  const opaque = ([, , , alpha = 1]) => alpha > 0.3;

  /** The nearest background that can be seen, within the panel. */
  const background = (element, panel) => {
    for (let at = element; at && at !== panel; at = at.parentElement) {
      const style = getComputedStyle(at);
      for (const found of [style.backgroundColor, style.backgroundImage]) {
        if (found.includes('rgb') && opaque(numbers(found))) return numbers(found).slice(0, 3);
      }
    }
    return null;
  };

  const texts = (panel) => {
    const walker = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
      const node = walker.currentNode;
      const visible = node.parentElement.checkVisibility({ checkVisibilityCSS: true, checkOpacity: true });
      if (visible && node.textContent.trim()) found.push(node);
    }
    return found;
  };

  /** Whether an element around the text shows less than its whole width. Lines that can be scrolled to are not cut. */
  const cut = (node, panel) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const text = range.getBoundingClientRect();
    if (!text.width) return false;
    for (let at = node.parentElement; at && at !== panel.parentElement; at = at.parentElement) {
      if (getComputedStyle(at).overflowX === 'visible') continue;
      const box = at.getBoundingClientRect();
      if (text.right > box.right + TOLERANCE || text.left < box.left - TOLERANCE) return true;
    }
    return false;
  };

  /** The colours at the right end of a plot without lines, from top to bottom: the state of each row now. */
  const states = (panel) => {
    const canvas = panel.querySelector('.u-wrap canvas');
    const plot = panel.querySelector('.u-over');
    if (!canvas || !plot) return [];
    const scale = canvas.width / canvas.getBoundingClientRect().width;
    const [inner, outer] = [plot.getBoundingClientRect(), canvas.getBoundingClientRect()];
    const [left, top] = [inner.left - outer.left, inner.top - outer.top].map((length) => Math.round(length * scale));
    const [width, height] = [inner.width, inner.height].map((length) => Math.round(length * scale));
    if (!width || !height) return [];
    const { data } = canvas.getContext('2d').getImageData(left, top, width, height);
    const column = (x) => {
      const found = [];
      for (let y = 0; y < height; y++) {
        const [red, green, blue, alpha] = data.slice((y * width + x) * 4, (y * width + x) * 4 + 4);
        found.push(alpha > 100 ? [red, green, blue] : null);
      }
      return runs(found);
    };
    const filled = (found) => found.reduce((sum, run) => sum + run.length, 0) > height / 5;
    for (let x = width - 3; x > width / 2; x--) {
      const found = column(x);
      if (filled(found)) return found.map((run) => run.colour);
    }
    return [];
  };

  /** Equal neighbours as one, those of a few pixels (borders, letters) left out. */
  const runs = (pixels) => {
    const found = [];
    for (const colour of pixels) {
      const last = found.at(-1);
      if (last && String(last.colour) === String(colour)) last.length += 1;
      else found.push({ colour, length: 1 });
    }
    return found.filter((run) => run.colour && run.length >= 6);
  };

  const panels = [...document.querySelectorAll(PANEL)].filter((panel) => !panel.parentElement.closest(PANEL));
  return panels.map((panel) => {
    const content = panel.querySelector(CONTENT) ?? panel;
    const title = panel.getAttribute('data-testid').replace('data-testid Panel header ', '');
    const words = texts(content);
    return {
      title,
      error: Boolean(panel.querySelector(ERROR)),
      loading: Boolean(panel.querySelector(LOADING)),
      message: panel.querySelector(MESSAGE)?.innerText.trim() ?? '',
      words: words.map((node) => ({
        text: node.textContent.trim(),
        colour: numbers(getComputedStyle(node.parentElement).color).slice(0, 3),
        background: background(node.parentElement, panel),
      })),
      states: states(panel),
      cut: words.filter((node) => cut(node, panel)).map((node) => node.textContent.trim()),
    };
  });
}
