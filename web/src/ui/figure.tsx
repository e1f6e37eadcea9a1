// Curves and histograms: uPlot draws them on the page; for saving, the same figure is written as SVG.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { number } from '../data/format';
import { dark, download } from '../data/state';
import { useStore } from '../data/store';
import { hideTip, showTip } from './common';

export interface Figure {
  kind: 'bars' | 'lines';
  /** Of bars: the n+1 edges. */
  x: number[];
  ys: (number | null)[][];
  names: string[];
  xLabel: string;
  yLabel: string;
  logY?: boolean;
  /** How hover says a place on x. */
  xText?: (x: number) => string;
}

export interface Palette {
  text: string;
  muted: string;
  line: string;
  panel: string;
  series: string[];
}

export function palette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return {
    text: of('--text'), muted: of('--muted'), line: of('--line'), panel: of('--panel'),
    series: [1, 2, 3, 4, 5, 6, 7].map((i) => of(`--series-${i}`)),
  };
}

const kFont = '11px system-ui, sans-serif';

function tickText(value: number): string {
  return Math.abs(value) >= 1e5 ? value.toExponential(0).replace('e+', 'e') : number(value, 3).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '');
}

function optionsFor(figure: Figure, width: number, height: number): uPlot.Options {
  const colours = palette();
  const bars = figure.kind === 'bars';
  const axis = (label: string, log: boolean): uPlot.Axis => ({
    stroke: colours.muted, font: kFont, label, labelFont: kFont, labelSize: 18, labelGap: 0, gap: 4,
    grid: { stroke: colours.line, width: 1 }, ticks: { stroke: colours.line, width: 1, size: 4 },
    // Of a logarithmic scale only the powers of ten: the steps between them would be a grey band.
    filter: log ? (_, splits) => splits.map((v) => (/^1e/.test(v.toExponential(5).replace('.00000', '')) ? v : null)) : undefined,
    values: (_, splits) => splits.map((v) => (v === null || v === undefined ? '' : tickText(v))),
  });
  const yAxis = axis(figure.yLabel, figure.logY ?? false);
  yAxis.size = 46;
  yAxis.space = 26;
  const xAxis = axis(figure.xLabel, false);
  xAxis.size = 24;
  const range = (_: uPlot, low: number, high: number): [number, number] => {
    if (figure.logY) {
      const least = Math.max(1e-12, low ?? 1);
      const from = bars ? Math.min(0.5, least / 2) : 10 ** Math.floor(Math.log10(least));
      return [from, Math.max(from * 10, bars ? (high ?? 1) * 1.3 : 10 ** Math.ceil(Math.log10(Math.max(high, 1e-12)) - 1e-9))];
    }
    if (bars) return [0, (high || 1) * 1.06];
    const pad = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - pad, high + pad];
  };
  const edges = figure.x;
  const barPaths = bars ? (u: uPlot, seriesIndex: number): uPlot.Series.Paths => {
    const fill = new Path2D();
    const base = u.valToPos(u.scales.y.min!, 'y', true);
    const values = u.data[seriesIndex];
    for (let i = 0; i < values.length; ++i) {
      const value = values[i];
      if (!value) continue;
      const left = u.valToPos(edges[i], 'x', true), right = u.valToPos(edges[i + 1], 'x', true);
      const top = u.valToPos(value, 'y', true);
      fill.rect(left + 0.5, top, Math.max(1, right - left - 1), base - top);
    }
    return { fill, stroke: null as unknown as Path2D };
  } : undefined;
  return {
    width, height, legend: { show: false }, padding: [8, 18, 0, 0],
    cursor: { y: false, drag: { x: !bars, y: false }, points: { show: !bars, size: 7 } },
    scales: {
      x: { time: false, range: bars ? () => [edges[0], edges[edges.length - 1]] : undefined },
      y: { distr: figure.logY ? 3 : 1, range },
    },
    axes: [xAxis, yAxis],
    series: [
      {},
      ...figure.names.map((name, i) => ({
        label: name, stroke: colours.series[i % 7], width: 1.5, spanGaps: true,
        fill: bars ? colours.series[i % 7] : undefined, paths: barPaths, points: { show: false },
      })),
    ],
  };
}

function dataOf(figure: Figure): uPlot.AlignedData {
  if (figure.kind === 'lines') return [figure.x, ...figure.ys] as uPlot.AlignedData;
  const middles = figure.ys[0].map((_, i) => (figure.x[i] + figure.x[i + 1]) / 2);
  return [middles, ...figure.ys.map((ys) => ys.map((y) => (figure.logY && !y ? null : y)))] as uPlot.AlignedData;
}

export function hoverText(figure: Figure, at: number): string {
  const say = figure.xText ?? ((x: number) => number(x, 4));
  const where = figure.kind === 'bars' ? `${say(figure.x[at])} … ${say(figure.x[at + 1])}` : `${figure.xLabel} ${say(figure.x[at])}`;
  const values = figure.names.map((name, i) => {
    const y = figure.ys[i][at];
    return y === null || y === undefined ? '' : `${name} ${number(y, 4)}`;
  });
  return [where, ...values.filter(Boolean)].join('\n');
}

export function Plot({ figure, height = 200, onPick, summary }: {
  figure: Figure; height?: number; onPick?: (at: number) => void; summary: string;
}) {
  const host = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const shape = `${figure.kind} ${figure.logY} ${figure.names.join()} ${figure.xLabel} ${figure.yLabel} ${figure.kind === 'bars' ? figure.x.join() : ''}`;
  const isDark = useStore(dark);
  const current = useRef(figure);
  current.current = figure;
  const pick = useRef(onPick);
  pick.current = onPick;
  useEffect(() => {
    const element = host.current!;
    const u = new uPlot(optionsFor(current.current, Math.max(120, element.clientWidth), height), dataOf(current.current), element);
    chart.current = u;
    for (const canvas of element.querySelectorAll('canvas')) canvas.setAttribute('aria-hidden', 'true');
    const point = (at: number | null | undefined) => {
      if (at === null || at === undefined) return hideTip();
      const box = u.over.getBoundingClientRect();
      const x = u.valToPos(u.data[0][at], 'x');
      showTip(hoverText(current.current, at), { x: box.left + x, y: box.top + 10 });
    };
    // A bar is what the pointer is over, not the nearest middle.
    const nearest = (event: MouseEvent) => {
      const box = u.over.getBoundingClientRect();
      const x = u.posToVal(event.clientX - box.left, 'x');
      if (current.current.kind === 'lines') return u.cursor.idx;
      const edges = current.current.x;
      for (let i = 0; i + 1 < edges.length; ++i) if (x >= edges[i] && x < edges[i + 1]) return i;
      return null;
    };
    const move = (event: MouseEvent) => point(nearest(event));
    const click = (event: MouseEvent) => {
      const at = nearest(event);
      if (at !== null && at !== undefined) pick.current?.(at);
    };
    let focus = -1;
    const key = (event: KeyboardEvent) => {
      const length = u.data[0].length;
      if (event.key === 'ArrowRight') focus = Math.min(length - 1, focus + 1);
      else if (event.key === 'ArrowLeft') focus = Math.max(0, focus < 0 ? length - 1 : focus - 1);
      else if (event.key === 'Enter' && focus >= 0) return pick.current?.(focus);
      else return;
      event.preventDefault();
      u.setCursor({ left: u.valToPos(u.data[0][focus], 'x'), top: 10 });
      point(focus);
    };
    u.over.addEventListener('mousemove', move);
    u.over.addEventListener('mouseleave', hideTip);
    u.over.addEventListener('click', click);
    element.addEventListener('keydown', key);
    element.addEventListener('blur', hideTip);
    const observer = new ResizeObserver(() => {
      const width = Math.max(120, element.clientWidth);
      if (width !== u.width) u.setSize({ width, height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      element.removeEventListener('keydown', key);
      element.removeEventListener('blur', hideTip);
      u.destroy();
      chart.current = null;
      hideTip();
    };
  }, [shape, isDark, height]);
  useEffect(() => {
    chart.current?.setData(dataOf(figure));
  }, [figure]);
  return <div class={onPick ? 'plot pickable' : 'plot'} ref={host} role="img" aria-label={summary} tabIndex={0} />;
}

// ---- as SVG

export function escapeXml(text: string): string {
  // What XML cannot hold at all goes.
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '')
    .replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

function ticks(low: number, high: number, wanted: number, log: boolean): number[] {
  const found: number[] = [];
  if (log) {
    const step = Math.max(1, Math.ceil((Math.log10(high) - Math.log10(low)) / wanted));
    for (let e = Math.ceil(Math.log10(low)); e <= Math.log10(high) + 1e-9; e += step) found.push(10 ** e);
    return found;
  }
  const rough = (high - low) / wanted || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * size).find((s) => s >= rough)!;
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return found;
}

export function svgOf(figure: Figure, title: string, width = 720, height = 360): string {
  const colours = palette();
  const [left, right, top, bottom] = [64, 16, 40, 52];
  const bars = figure.kind === 'bars';
  const all = figure.ys.flat().filter((y): y is number => y !== null && Number.isFinite(y) && (!figure.logY || y > 0));
  const [x0, x1] = [figure.x[0], figure.x[figure.x.length - 1]];
  let y0 = bars ? 0 : Math.min(...all), y1 = Math.max(...all);
  if (figure.logY) [y0, y1] = bars ? [0.5, y1 * 1.3] : [10 ** Math.floor(Math.log10(y0)), 10 ** Math.ceil(Math.log10(y1))];
  if (!(y1 > y0)) y1 = y0 + 1;
  const sx = (x: number) => left + ((x - x0) / (x1 - x0 || 1)) * (width - left - right);
  const map = (y: number) => (figure.logY ? Math.log10(Math.max(y, 1e-300)) : y);
  const sy = (y: number) => height - bottom - ((map(y) - map(y0)) / (map(y1) - map(y0))) * (height - top - bottom);
  const out: string[] = [];
  const text = (x: number, y: number, s: string, anchor: string, extra = '') =>
    out.push(`<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}"${extra}>${escapeXml(s)}</text>`);
  for (const y of ticks(y0, y1, 5, figure.logY ?? false)) {
    out.push(`<path d="M${left} ${sy(y).toFixed(1)}H${width - right}" stroke="${colours.line}"/>`);
    text(left - 6, sy(y) + 4, tickText(y), 'end');
  }
  for (const x of ticks(x0, x1, 7, false)) {
    out.push(`<path d="M${sx(x).toFixed(1)} ${height - bottom}v5" stroke="${colours.muted}"/>`);
    text(sx(x), height - bottom + 18, tickText(x), 'middle');
  }
  out.push(`<path d="M${left} ${height - bottom}H${width - right}" stroke="${colours.muted}"/>`);
  text((left + width - right) / 2, height - 12, figure.xLabel, 'middle');
  text(0, 0, figure.yLabel, 'middle', ` transform="translate(16 ${(top + height - bottom) / 2}) rotate(-90)"`);
  figure.ys.forEach((ys, s) => {
    const colour = colours.series[s % 7];
    if (bars) {
      ys.forEach((y, i) => {
        if (!y) return;
        const [a, b] = [sx(figure.x[i]), sx(figure.x[i + 1])];
        out.push(`<rect x="${(a + 0.5).toFixed(1)}" y="${sy(y).toFixed(1)}" width="${Math.max(0.5, b - a - 1).toFixed(1)}" height="${(height - bottom - sy(y)).toFixed(1)}" fill="${colour}"/>`);
      });
      return;
    }
    const points = ys.map((y, i) => (y === null || !Number.isFinite(y) || (figure.logY && y <= 0) ? '' : `${sx(figure.x[i]).toFixed(1)},${sy(y).toFixed(1)}`)).filter(Boolean);
    out.push(`<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="1.5" stroke-linejoin="round"/>`);
    if (figure.names.length > 1) {
      out.push(`<rect x="${left + s * 130}" y="24" width="10" height="10" fill="${colour}"/>`);
      text(left + s * 130 + 14, 33, figure.names[s], 'start');
    }
  });
  return svgPage(width, height, colours, title, out.join('\n'));
}

export function svgPage(width: number, height: number, colours: Palette, title: string, content: string): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" fill="${colours.text}">
<title>${escapeXml(title)}</title>
<rect width="100%" height="100%" fill="${colours.panel}"/>
<text x="16" y="18" font-size="13" font-weight="600">${escapeXml(title)}</text>
${content}
</svg>
`;
}

function savePng(name: string, svg: string): void {
  const picture = new Image();
  picture.onload = () => {
    const canvas = document.createElement('canvas');
    canvas.width = picture.width * 2;
    canvas.height = picture.height * 2;
    canvas.getContext('2d')!.drawImage(picture, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => blob && download(`${name}.png`, blob));
  };
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
}

/** A titled figure with its ways out. `svg` is asked for when one is taken. */
export function FigureFrame({ title, svg, children, tools, level = 2 }: {
  title: string; svg: () => string; children: ComponentChildren; tools?: ComponentChildren; level?: 2 | 3;
}) {
  const name = title.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '');
  const Heading = `h${level}` as 'h2';
  const [open, setOpen] = useState(false);
  return (
    <section class="figure" aria-label={title}>
      <header>
        <Heading>{title}</Heading>
        <div class="tools">
          {tools}
          <span class="save" onMouseLeave={() => setOpen(false)}>
            <button type="button" class="ghost" aria-expanded={open} aria-label={`Save figure: ${title}`} onClick={() => setOpen(!open)}>Save</button>
            {open && (
              <span class="menu">
                <button type="button" onClick={() => { setOpen(false); download(`${name}.svg`, svg(), 'image/svg+xml'); }}>SVG</button>
                <button type="button" onClick={() => { setOpen(false); savePng(name, svg()); }}>PNG</button>
              </span>
            )}
          </span>
        </div>
      </header>
      {children}
    </section>
  );
}
