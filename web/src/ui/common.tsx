// Small parts of every view.
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { number, pieces, plain } from '../data/format';
import { address, labels, place } from '../data/state';
import { Store, useStore } from '../data/store';
import type { Table } from '../data/table';

/** A token's text, what cannot be seen as quiet marks. */
export function TokenText({ token, ends }: { token: string; ends?: boolean }) {
  let text = token;
  let before = '', after = '';
  if (ends) {
    before = /^ +/.exec(text)?.[0] ?? '';
    text = text.slice(before.length);
    after = / +$/.exec(text)?.[0] ?? '';
    text = text.slice(0, text.length - after.length);
  }
  const parts = pieces(text);
  return (
    <>
      {before && <span class="quiet">{'·'.repeat(before.length)}</span>}
      {parts.map((part) => (part.quiet ? <span class="quiet">{part.text}</span> : part.text))}
      {after && <span class="quiet">{'·'.repeat(after.length)}</span>}
      {token === '' && <span class="quiet">∅</span>}
    </>
  );
}

export function Chip({ token, hit }: { token: string; hit?: boolean }) {
  return <bdi class={hit ? 'chip hit' : 'chip'}><TokenText token={token} ends /></bdi>;
}

/** Ten steps of one hue, light to strong (style.css); negative values of another. */
export function level(value: number, scale: number): string {
  if (!(scale > 0) || !value) return '';
  const step = Math.min(9, Math.floor((Math.abs(value) / scale) * 10));
  return (value > 0 ? 'a' : 'n') + step;
}

// ---- the one tooltip

interface Tip {
  text: string;
  x: number;
  y: number;
}
const tip = new Store<Tip | null>(null);

export function showTip(text: string, at: Element | { x: number; y: number }): void {
  if (at instanceof Element) {
    const box = at.getClientRects()[0] ?? at.getBoundingClientRect();
    tip.set({ text, x: box.left + box.width / 2, y: box.top });
  } else {
    tip.set({ text, ...at });
  }
}

export function hideTip(): void {
  if (tip.get()) tip.set(null);
}

export function Tooltip() {
  const now = useStore(tip);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = box.current;
    if (!now || !element) return;
    const { offsetWidth: width, offsetHeight: height } = element;
    const left = Math.max(4, Math.min(now.x - width / 2, document.documentElement.clientWidth - width - 4));
    const above = now.y - height - 8;
    element.style.left = `${left}px`;
    element.style.top = `${above < 4 ? now.y + 24 : above}px`;
    element.style.visibility = 'visible';
  });
  useEffect(() => {
    window.addEventListener('scroll', hideTip, true);
    return () => window.removeEventListener('scroll', hideTip, true);
  }, []);
  return (
    <div role="status" aria-live="polite">
      {now && <div class="tip" ref={box}>{now.text}</div>}
    </div>
  );
}

// ---- tokens with values

interface TokensProps {
  tokens: string[];
  values: (number | undefined)[];
  scale: number;
  peak?: number;
  /** Shown from here to there only. */
  from?: number;
  to?: number;
  breaks?: boolean;
  selected?: number;
  onPick?: (at: number) => void;
}

export function tokenTip(token: string, value: number | undefined): string {
  return `${plain(token)}   ${value === undefined ? '' : number(value)}`.trim();
}

export function Tokens({ tokens, values, scale, peak, from = 0, to = tokens.length, breaks, selected, onPick }: TokensProps) {
  const spans: JSX.Element[] = [];
  for (let i = from; i < to; ++i) {
    const strength = level(values[i] ?? 0, scale);
    const classes = `t ${strength}${i === peak ? ' peak' : ''}${i === selected ? ' picked' : ''}`;
    const text = <TokenText token={tokens[i]} />;
    spans.push(onPick
      ? <button type="button" class={classes} data-i={i} aria-pressed={i === selected} onClick={() => onPick(i)}>{text}</button>
      : <span class={classes} data-i={i}>{text}</span>);
    if (breaks && tokens[i].includes('\n')) spans.push(<br />);
  }
  return <>{spans}</>;
}

/** Hover, and arrow keys once focused, over the tokens inside: a tooltip with each one's value. */
export function tokenEvents(tokens: string[], values: (number | undefined)[], start: number) {
  let at = -1;
  const show = (host: Element, i: number) => {
    const element = host.querySelector(`[data-i="${i}"]`);
    if (!element) return false;
    host.querySelector('.at')?.classList.remove('at');
    at = i;
    element.classList.add('at');
    element.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    showTip(tokenTip(tokens[i], values[i]), element);
    return true;
  };
  const leave = (host: Element) => {
    host.querySelector('.at')?.classList.remove('at');
    hideTip();
  };
  return {
    onMouseOver: (event: MouseEvent) => {
      const element = (event.target as Element).closest('[data-i]');
      if (!element) return hideTip();
      const i = Number(element.getAttribute('data-i'));
      showTip(tokenTip(tokens[i], values[i]), element);
    },
    onMouseLeave: () => hideTip(),
    onFocus: (event: FocusEvent) => {
      if (event.target === event.currentTarget && (event.target as Element).matches(':focus-visible')) show(event.currentTarget as Element, start);
    },
    onBlur: (event: FocusEvent) => leave(event.currentTarget as Element),
    onKeyDown: (event: KeyboardEvent) => {
      const host = event.currentTarget as Element;
      if (event.target !== host) return;
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      if (at < 0) at = start - step;
      show(host, at + step);
    },
  };
}

// ---- features by number

export function featureAddress(feature: number): string {
  const { view, params } = place.get();
  const keep = view === 'features' || view === 'feature' ? params : undefined;
  return address('feature', feature, keep);
}

export function FeatureName({ feature, table }: { feature: number; table: Table | null }) {
  const label = useStore(labels).get(feature);
  if (label) return <bdi class="label">{label}</bdi>;
  const tokens = table?.firesOn[feature] ?? [];
  return tokens.length
    ? <span class="chips">{tokens.map((token) => <Chip token={token} />)}</span>
    : <span class="quiet">{table && table.columns.density[feature] === 0 ? 'dead' : ''}</span>;
}

export function Bar({ value, scale, signed }: { value: number; scale: number; signed?: boolean }) {
  const part = scale > 0 ? Math.min(1, Math.abs(value) / scale) : 0;
  // As attributes of SVG: no inline style is needed for a length.
  return (
    <svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      {signed
        ? <rect class={value < 0 ? 'negative' : 'positive'} x={value < 0 ? 50 - 50 * part : 50} width={50 * part} height="6" />
        : <rect class={value < 0 ? 'negative' : 'positive'} x="0" width={100 * part} height="6" />}
    </svg>
  );
}

export function Segments<T extends string>({ name, value, options, onChange }: {
  name: string; value: T; options: readonly (readonly [T, string])[]; onChange: (value: T) => void;
}) {
  return (
    <div class="segments" role="group" aria-label={name}>
      {options.map(([key, text]) => (
        <button type="button" aria-pressed={key === value} onClick={() => onChange(key)}>{text}</button>
      ))}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return <div class="empty"><p class="empty-title">{title}</p>{children}</div>;
}
