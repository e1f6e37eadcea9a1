// The plane of decoder directions: one point a feature, on a canvas, found again through a grid.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { number, percent, plain } from '../data/format';
import { address, dark, go, labels } from '../data/state';
import { useStore } from '../data/store';
import type { Table } from '../data/table';
import { select } from '../data/table';
import { hideTip, Segments, showTip } from '../ui/common';
import { escapeXml, FigureFrame, palette, svgPage } from '../ui/figure';

// Cividis: even steps of lightness that every eye tells apart. On a dark page its darkest steps would
// vanish, on a light one its lightest, so each uses the other part.
const kCividis = ['#00224e', '#123570', '#3b496c', '#575d6d', '#707173', '#8a8678', '#a59c74', '#c3b369', '#e1cc55', '#fee838'];
const kSteps = 7;

type By = 'density' | 'max' | 'similarity';

function ranks(column: Float32Array, log: boolean): { step: Uint8Array; low: number; high: number } {
  const values = Array.from(column).filter((v) => Number.isFinite(v) && (!log || v > 0)).sort((a, b) => a - b);
  const low = values[Math.floor(values.length * 0.02)] ?? 0;
  const high = values[Math.floor(values.length * 0.98)] ?? 1;
  const of = (v: number) => (log ? Math.log(Math.max(v, 1e-30)) : v);
  const step = new Uint8Array(column.length);
  for (let i = 0; i < column.length; ++i) {
    const t = (of(column[i]) - of(low)) / (of(high) - of(low) || 1);
    step[i] = Math.max(0, Math.min(kSteps - 1, Math.floor((Number.isFinite(t) ? t : 0) * kSteps)));
  }
  return { step, low, high };
}

interface View {
  x: number;
  y: number;
  zoom: number;
}

export function FeatureMap({ table, method }: { table: Table; method: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [by, setBy] = useState<By>('density');
  const [query, setQuery] = useState('');
  const [view, setView] = useState<View>({ x: 0.5, y: 0.5, zoom: 1 });
  const [hover, setHover] = useState(-1);
  const [size, setSize] = useState({ width: 600, height: 420 });
  const isDark = useStore(dark);
  const names = useStore(labels);
  const { density, map_x: xs, map_y: ys } = table.columns;

  // Into the unit square, both axes by one scale: distances mean something here.
  const placed = useMemo(() => {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < table.count; ++i) {
      if (!Number.isFinite(xs[i]) || !Number.isFinite(ys[i])) continue;
      x0 = Math.min(x0, xs[i]); x1 = Math.max(x1, xs[i]);
      y0 = Math.min(y0, ys[i]); y1 = Math.max(y1, ys[i]);
    }
    const span = Math.max(x1 - x0, y1 - y0) || 1;
    const px = new Float32Array(table.count), py = new Float32Array(table.count);
    for (let i = 0; i < table.count; ++i) {
      px[i] = 0.5 + (xs[i] - (x0 + x1) / 2) / span;
      py[i] = 0.5 - (ys[i] - (y0 + y1) / 2) / span;
    }
    const kGrid = 96;
    const cells = new Map<number, number[]>();
    for (let i = 0; i < table.count; ++i) {
      if (!Number.isFinite(px[i])) continue;
      const cell = Math.min(kGrid - 1, Math.floor(px[i] * kGrid)) * kGrid + Math.min(kGrid - 1, Math.floor(py[i] * kGrid));
      const there = cells.get(cell);
      if (there) there.push(i);
      else cells.set(cell, [i]);
    }
    return { px, py, cells, grid: kGrid };
  }, [table]);
  const colour = useMemo(() => ranks(table.columns[by], by === 'density'), [table, by]);
  const colours = isDark ? kCividis.slice(3) : kCividis.slice(0, 7);
  const marked = useMemo(() => (query.trim()
    ? select(table, names, { query, sort: 'feature', descending: false, state: 'all' }) : null), [table, names, query]);

  const scale = Math.min(size.width, size.height) * 0.94;
  const toX = (u: number) => size.width / 2 + (u - view.x) * scale * view.zoom;
  const toY = (v: number) => size.height / 2 + (v - view.y) * scale * view.zoom;
  const radius = Math.min(6, (table.count > 4000 ? 1.5 : table.count > 800 ? 2.2 : 3) * Math.sqrt(view.zoom));

  useEffect(() => {
    const element = canvas.current!;
    const ratio = window.devicePixelRatio || 1;
    element.width = Math.round(size.width * ratio);
    element.height = Math.round(size.height * ratio);
    const pen = element.getContext('2d')!;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, size.width, size.height);
    const { px, py } = placed;
    const paths = colours.map(() => new Path2D());
    for (let i = 0; i < table.count; ++i) {
      const x = toX(px[i]), y = toY(py[i]);
      if (!(x > -8 && y > -8 && x < size.width + 8 && y < size.height + 8)) continue;
      const path = paths[colour.step[i]];
      if (radius < 2) {
        path.rect(x - radius, y - radius, 2 * radius, 2 * radius);
      } else {
        path.moveTo(x + radius, y);
        path.arc(x, y, radius, 0, 2 * Math.PI);
      }
    }
    pen.globalAlpha = marked ? 0.18 : 0.85;
    paths.forEach((path, i) => {
      pen.fillStyle = colours[i];
      pen.fill(path);
    });
    pen.globalAlpha = 1;
    if (marked) {
      const ring = palette().series[1];
      const path = new Path2D();
      for (const i of marked) {
        const x = toX(px[i]), y = toY(py[i]);
        if (!Number.isFinite(x)) continue;
        path.moveTo(x + radius + 1.5, y);
        path.arc(x, y, radius + 1.5, 0, 2 * Math.PI);
      }
      pen.fillStyle = ring;
      pen.fill(path);
    }
    if (hover >= 0) {
      pen.strokeStyle = palette().text;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(toX(px[hover]), toY(py[hover]), radius + 4, 0, 2 * Math.PI);
      pen.stroke();
    }
  }, [placed, colour, marked, view, hover, size, isDark]);

  useEffect(() => {
    const element = canvas.current!;
    const observer = new ResizeObserver(() => {
      const width = element.clientWidth, height = element.clientHeight;
      setSize((old) => (old.width === width && old.height === height ? old : { width, height }));
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const nearest = (event: MouseEvent): number => {
    const box = canvas.current!.getBoundingClientRect();
    const mx = event.clientX - box.left, my = event.clientY - box.top;
    const reach = 14 / (scale * view.zoom);
    const u = (mx - size.width / 2) / (scale * view.zoom) + view.x;
    const v = (my - size.height / 2) / (scale * view.zoom) + view.y;
    const { px, py, cells, grid } = placed;
    let best = -1, least = reach * reach;
    const first = (w: number) => Math.max(0, Math.floor((w - reach) * grid));
    const last = (w: number) => Math.min(grid - 1, Math.floor((w + reach) * grid));
    for (let a = first(u); a <= last(u); ++a) {
      for (let b = first(v); b <= last(v); ++b) {
        for (const i of cells.get(a * grid + b) ?? []) {
          const d = (px[i] - u) ** 2 + (py[i] - v) ** 2;
          if (d < least) {
            least = d;
            best = i;
          }
        }
      }
    }
    return best;
  };
  const zoomBy = (factor: number, at?: { x: number; y: number }) => setView((old) => {
    const zoom = Math.max(1, Math.min(60, old.zoom * factor));
    if (zoom === 1) return { x: 0.5, y: 0.5, zoom: 1 };
    if (!at) return { ...old, zoom };
    // What is under the pointer stays under it.
    const u = (at.x - size.width / 2) / scale, v = (at.y - size.height / 2) / scale;
    return { x: old.x + u / old.zoom - u / zoom, y: old.y + v / old.zoom - v / zoom, zoom };
  });
  const zoomRef = useRef(zoomBy);
  zoomRef.current = zoomBy;
  useEffect(() => {
    const element = canvas.current!;
    // The page keeps its own scrolling until the map is asked: Ctrl, or a click into it first.
    const wheel = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== element) return;
      event.preventDefault();
      const box = element.getBoundingClientRect();
      zoomRef.current(Math.exp(-event.deltaY * 0.002), { x: event.clientX - box.left, y: event.clientY - box.top });
    };
    element.addEventListener('wheel', wheel, { passive: false });
    return () => element.removeEventListener('wheel', wheel);
  }, []);

  const drag = useRef<{ x: number; y: number; moved: boolean } | null>(null);
  const say = (feature: number) => {
    const name = names.get(feature) ?? (table.firesOn[feature] ?? []).map(plain).join('  ');
    return `feature ${feature}${name ? `\n${name}` : ''}\n${percent(density[feature])} of tokens, max ${number(table.columns.max[feature])}`;
  };
  const move = (event: PointerEvent) => {
    if (drag.current && event.buttons) {
      const dx = event.clientX - drag.current.x, dy = event.clientY - drag.current.y;
      if (drag.current.moved || Math.hypot(dx, dy) > 3) {
        drag.current = { x: event.clientX, y: event.clientY, moved: true };
        setView((old) => ({ ...old, x: old.x - dx / (scale * old.zoom), y: old.y - dy / (scale * old.zoom) }));
        hideTip();
      }
      return;
    }
    const feature = nearest(event);
    if (feature !== hover) setHover(feature);
    if (feature < 0) return hideTip();
    const box = canvas.current!.getBoundingClientRect();
    showTip(say(feature), { x: box.left + toX(placed.px[feature]), y: box.top + toY(placed.py[feature]) - 4 });
  };
  const key = (event: KeyboardEvent) => {
    const step = 0.15 / view.zoom;
    if (event.key === '+' || event.key === '=') zoomBy(1.5);
    else if (event.key === '-') zoomBy(1 / 1.5);
    else if (event.key === '0') setView({ x: 0.5, y: 0.5, zoom: 1 });
    else if (event.key === 'ArrowLeft') setView({ ...view, x: view.x - step });
    else if (event.key === 'ArrowRight') setView({ ...view, x: view.x + step });
    else if (event.key === 'ArrowUp') setView({ ...view, y: view.y - step });
    else if (event.key === 'ArrowDown') setView({ ...view, y: view.y + step });
    else return;
    event.preventDefault();
  };
  const title = `Decoder directions (${method.toUpperCase()})`;
  const svg = () => {
    const page = palette();
    const parts: string[] = [];
    for (let i = 0; i < table.count; ++i) {
      const x = toX(placed.px[i]), y = toY(placed.py[i]) + 28;
      if (!(x >= 0 && y >= 28 && x <= size.width && y <= size.height + 28)) continue;
      parts.push(`<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${radius.toFixed(1)}" fill="${colours[colour.step[i]]}"><title>${escapeXml(String(i))}</title></circle>`);
    }
    return svgPage(size.width, size.height + 28, page, `${title}, colour: ${by}`, parts.join('\n'));
  };
  const byName = { density: 'density', max: 'max', similarity: 'similarity' }[by];
  return (
    <FigureFrame title={title} svg={svg} tools={
      <Segments name="Colour by" value={by} onChange={setBy}
        options={[['density', 'Density'], ['max', 'Max'], ['similarity', 'Similarity']]} />
    }>
      <div class="map">
        <canvas ref={canvas} tabIndex={0} role="img" class={hover >= 0 ? 'over' : ''}
          aria-label={`${table.count} features on a plane; the feature list holds the same features`}
          onPointerMove={move}
          onPointerDown={(event) => {
            drag.current = { x: event.clientX, y: event.clientY, moved: false };
            canvas.current!.setPointerCapture(event.pointerId);
          }}
          onPointerUp={(event) => {
            const still = drag.current && !drag.current.moved;
            drag.current = null;
            const feature = still ? nearest(event) : -1;
            if (feature >= 0) {
              hideTip();
              go(address('feature', feature));
            }
          }}
          onPointerLeave={() => { setHover(-1); hideTip(); }}
          onDblClick={(event) => zoomBy(2.5, { x: event.offsetX, y: event.offsetY })}
          onKeyDown={key} />
        <div class="map-tools">
          <button type="button" aria-label="Zoom in" onClick={() => zoomBy(1.6)}>+</button>
          <button type="button" aria-label="Zoom out" onClick={() => zoomBy(1 / 1.6)}>−</button>
          <button type="button" aria-label="Show all" onClick={() => setView({ x: 0.5, y: 0.5, zoom: 1 })}>⤢</button>
        </div>
      </div>
      <div class="map-foot">
        <input type="search" class="small" placeholder="Mark features by token or label" aria-label="Mark features on the map"
          value={query} onInput={(event) => setQuery(event.currentTarget.value)} />
        {marked && <span class="muted">{number(marked.length)} marked</span>}
        <span class="ramp"><span class="muted">{byName} {by === 'density' ? percent(colour.low) : number(colour.low)}</span>
          <svg viewBox="0 0 70 8" aria-hidden="true">{colours.map((c, i) => <rect x={i * 10} width="10" height="8" fill={c} />)}</svg>
          <span class="muted">{by === 'density' ? percent(colour.high) : number(colour.high)}</span></span>
      </div>
    </FigureFrame>
  );
}
