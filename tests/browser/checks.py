"""What every page must keep, asked of it as the browser has drawn it. Each check gives what is wrong, in words."""

from typing import Any

from playwright.async_api import Page

_TOOLS = """
const shown = el => el.checkVisibility({opacityProperty: true, visibilityProperty: true})
  && el.getClientRects().length > 0;
const spoken = el => !el.closest('[aria-hidden="true"], [inert]');
const says = el => `<${el.tagName.toLowerCase()} class="${el.getAttribute('class') ?? ''}"> `
  + el.textContent.trim().slice(0, 40);
const pixel = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const known = new Map();
const rgba = colour => {
  if (!known.has(colour)) {
    pixel.clearRect(0, 0, 1, 1); pixel.fillStyle = '#0000'; pixel.fillStyle = colour; pixel.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
    known.set(colour, [r, g, b, a / 255]);
  }
  return known.get(colour);
};
const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
const ground = el => {
  const layers = [];
  for (let each = el; each; each = each.parentElement) layers.push(rgba(getComputedStyle(each).backgroundColor));
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
};
const light = colour => {
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = colour.slice(0, 3).map(v => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => {
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
"""

_UNNAMED = """
const text = id => document.getElementById(id)?.textContent ?? '';
const labelled = el => (el.getAttribute('aria-labelledby') ?? '').split(' ').map(text).join('');
const inside = el => {
  const copy = el.cloneNode(true);
  copy.querySelectorAll('[aria-hidden="true"]').forEach(each => each.remove());
  return copy.textContent + [...copy.querySelectorAll('img')].map(each => each.alt).join('');
};
const name = el => el.getAttribute('aria-label') || labelled(el) || [...(el.labels ?? [])].map(inside).join('')
  || (el.matches('input, select, textarea') ? '' : inside(el)) || el.title;
const controls = 'button, a[href], input, select, textarea, summary, [role="button"], [role="img"]';
return [...document.querySelectorAll(controls)]
  .filter(el => shown(el) && spoken(el) && !name(el).trim()).map(says);
"""

_ORDER = """
const wrong = [];
for (const [what, selector] of [['main', 'main:not([role="presentation"])'], ['navigation', 'nav'], ['h1', 'h1']]) {
  const count = [...document.querySelectorAll(selector)].filter(el => el.checkVisibility()).length;
  if (count !== 1) wrong.push(`${count} of ${what}`);
}
let before = 0;
for (const el of [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].filter(each => each.checkVisibility())) {
  const level = Number(el.tagName[1]);
  if (level > before + 1) wrong.push(`a heading of level ${level} after ${before}: ${says(el)}`);
  before = level;
}
for (const el of document.querySelectorAll('img:not([alt])')) wrong.push(`no alt: ${says(el)}`);
const seen = new Set();
for (const {id} of document.querySelectorAll('[id]')) { if (seen.has(id)) wrong.push(`two of #${id}`); seen.add(id); }
for (const el of document.querySelectorAll('[tabindex]')) {
  if (el.tabIndex > 0) wrong.push(`jumps the queue: ${says(el)}`);
}
return wrong;
"""

_FAINT = """
const wrong = new Set();
const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT, node => node.data.trim() ? 1 : 3);
while (words.nextNode()) {
  const el = words.currentNode.parentElement;
  if (!shown(el) || el.closest('.sr-only, .icon, :disabled, .skip-link, script, style')) continue;
  const style = getComputedStyle(el), below = ground(el);
  const ink = over(rgba(el.ownerSVGElement ? style.fill : style.color), below);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const found = contrast(ink, below);
  if (found < (large ? 3 : 4.5)) wrong.add(`${found.toFixed(2)}: ${says(el)}`);
}
return [...wrong];
"""

_TOO_WIDE = """
const wrong = [], root = document.documentElement;
if (root.scrollWidth > innerWidth) {
  wrong.push(`the page is ${root.scrollWidth} wide in ${innerWidth}`);
  for (const el of document.body.querySelectorAll('*')) {
    if (!shown(el) || el.closest('.scroll-x, .chart-table')) continue;
    if (el.getBoundingClientRect().right > innerWidth + 1) wrong.push(says(el));
  }
}
for (const el of document.querySelectorAll('.material-icons')) {
  const box = el.getBoundingClientRect();
  if (shown(el) && box.width > 1.5 * box.height) wrong.push(`the font has no such icon: ${el.textContent}`);
}
return wrong.slice(0, 8);
"""

_UNMARKED = """
const el = document.activeElement, style = getComputedStyle(el);
const near = el.nextElementSibling && getComputedStyle(el.nextElementSibling);
const outlined = each => each.outlineStyle !== 'none' && parseFloat(each.outlineWidth) >= 2;
const marked = each => each && (outlined(each) || each.boxShadow !== 'none');
// A field may show it by the frame around it.
const frames = [el.parentElement, el.parentElement?.parentElement].filter(Boolean);
const looks = () => frames.map(each => getComputedStyle(each)).map(s => s.outline + s.boxShadow + s.borderColor).join();
const framed = () => {
  const before = looks();
  el.blur();
  const after = looks();
  el.focus();
  return before !== after;
};
el.dataset.reached = 'yes';
const seen = marked(style) || marked(near) || (el.matches('textarea, input') && framed());
return [el === document.body ? '' : says(el), Boolean(seen)];
"""

_UNREACHED = """
const radios = el => [...document.querySelectorAll(`input[type="radio"][name="${el.name}"]`)];
const reached = el => el.dataset.reached || (el.type === 'radio' && radios(el).some(each => each.dataset.reached));
return [...document.querySelectorAll('button, a[href], input, select, textarea, summary')]
  .filter(el => (shown(el) || el.type === 'radio' && el.checkVisibility()) && !el.disabled && !reached(el)).map(says);
"""


async def _ask(page: Page, question: str) -> Any:
    return await page.evaluate(f"() => {{ {_TOOLS} {question} }}")


async def unnamed(page: Page) -> list[str]:
    """Controls and pictures that a screen reader has no name for."""
    return list(await _ask(page, _UNNAMED))


async def disorder(page: Page) -> list[str]:
    """Landmarks, headings, ids and the order of the keyboard that mislead."""
    return list(await _ask(page, _ORDER))


async def faint(page: Page) -> list[str]:
    """Words with less contrast than WCAG 2.2 AA asks for (4.5, large ones 3)."""
    return list(await _ask(page, _FAINT))


async def too_wide(page: Page) -> list[str]:
    """What sticks out of the window sideways, and icons that are drawn as words."""
    return list(await _ask(page, _TOO_WIDE))


async def focused(page: Page) -> tuple[str, bool]:
    """Who has the keyboard ("" for nobody), and whether that can be seen."""
    name, marked = await _ask(page, _UNMARKED)
    return str(name), bool(marked)


async def unreached(page: Page) -> list[str]:
    """Controls that `focused` has never found the keyboard on. Of a group of radio buttons, one is enough."""
    return list(await _ask(page, _UNREACHED))


async def colours(page: Page, picture: bytes) -> int:
    """How many different colours a PNG has: a blank page has a handful."""
    import base64

    source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    count = await page.evaluate(
        """async source => {
          const image = new Image(); image.src = source; await image.decode();
          const board = document.createElement('canvas');
          [board.width, board.height] = [image.width / 3, image.height / 3];
          const brush = board.getContext('2d'); brush.imageSmoothingEnabled = false;
          brush.drawImage(image, 0, 0, board.width, board.height);
          return new Set(new Uint32Array(brush.getImageData(0, 0, board.width, board.height).data.buffer)).size;
        }""",
        source,
    )
    return int(count)
