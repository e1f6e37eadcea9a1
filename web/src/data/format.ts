// Numbers and tokens as people read them.

/** About `digits` significant digits, no exponent where that is readable. */
export function number(x: number | undefined | null, digits = 3): string {
  if (x === undefined || x === null || Number.isNaN(x)) return '–';
  if (!Number.isFinite(x)) return x > 0 ? '∞' : '−∞';
  if (x === 0) return '0';
  const size = Math.abs(x);
  let text;
  if (size >= 1e6 || size < 1e-3) {
    const [mantissa, exponent] = x.toExponential(digits - 1).split('e');
    text = `${mantissa}e${Number(exponent)}`;
  } else if (Number.isInteger(x)) {
    text = x.toLocaleString('en-US').replaceAll(',', ' ');
  } else if (size >= 1000) {
    text = Math.round(x).toLocaleString('en-US').replaceAll(',', ' ');
  } else {
    text = x.toFixed(Math.max(0, Math.min(6, digits - 1 - Math.floor(Math.log10(size)))));
  }
  return text.replaceAll('-', '−');
}

export function count(x: number | undefined): string {
  return x === undefined || Number.isNaN(x) ? '–' : Math.round(x).toLocaleString('en-US').replaceAll(',', ' ');
}

export function percent(x: number | undefined): string {
  if (x === undefined || Number.isNaN(x)) return '–';
  if (x === 0) return '0 %';
  const p = x * 100;
  if (p < 1e-3) return `${p.toExponential(1).replace('-', '−')} %`;
  const places = p >= 10 ? 1 : p >= 0.1 ? 2 : 1 - Math.floor(Math.log10(p));
  return `${p.toFixed(places)} %`;
}

const kGlyphs: Record<string, string> = { '\n': '↵', '\r': '␍', '\t': '⇥' };

/** The pieces of a token: what stands as it is, and marks for what could not be seen. */
export function pieces(token: string): { text: string; quiet: boolean }[] {
  const parts: { text: string; quiet: boolean }[] = [];
  const put = (text: string, quiet: boolean) => {
    const last = parts[parts.length - 1];
    if (last && last.quiet === quiet) last.text += text;
    else parts.push({ text, quiet });
  };
  for (const character of token) {
    const code = character.codePointAt(0)!;
    if (kGlyphs[character]) put(kGlyphs[character], true);
    else if (code < 0x20 || code === 0x7f) put(`\\x${code.toString(16).padStart(2, '0')}`, true);
    // Marks of direction, joiners and other characters without a shape would act on the page around them.
    else if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(character) && code !== 0x200d) put(`U+${code.toString(16).toUpperCase().padStart(4, '0')}`, true);
    else put(character, false);
  }
  return parts;
}

/** One line, for a tooltip or a name: spaces at the ends as marks too. */
export function plain(token: string): string {
  const text = pieces(token).map((part) => part.text).join('');
  return text.replace(/^ +| +$/g, (spaces) => '␣'.repeat(spaces.length)) || '(empty)';
}

/** In columns of like numbers, whose points stand below each other. */
export function fixed(x: number, places = 2): string {
  return Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 10 ** -places / 2) ? number(x, 3) : x.toFixed(places).replace('-', '−');
}

export function date(text: string | number | undefined): string {
  if (text === undefined || text === '') return '';
  const time = new Date(typeof text === 'number' ? text * 1000 : text);
  if (Number.isNaN(time.getTime())) return String(text);
  return time.toISOString().slice(0, 16).replace('T', ' ');
}
