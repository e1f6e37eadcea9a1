import { useMemo, useState } from 'preact/hooks';
import { count, date, number, percent } from '../data/format';
import { address, go } from '../data/state';
import type { Table } from '../data/table';
import type { Index, Series } from '../data/types';
import { Empty, Segments } from '../ui/common';
import { FigureFrame, Plot, svgOf } from '../ui/figure';
import type { Figure } from '../ui/figure';
import { FeatureMap } from './map';

const kNames: Record<string, string> = {
  l0: 'L0', fvu: 'FVU', mse: 'MSE', dead: 'Dead', dense: 'Dense', d_model: 'd_model', d_in: 'd_in', d_sae: 'd_sae',
  n_layers: 'layers', vocab_size: 'vocabulary', l0_target: 'L0 target', context_before: 'context before',
  context_after: 'context after', special_tokens: 'special tokens',
};
const kMeanings: Record<string, string> = {
  l0: 'features active on a token, mean', fvu: 'fraction of variance unexplained', mse: 'squared error of reconstruction, mean',
  dead: 'features that never fire on this text', dense: 'features that fire on a large part of all tokens',
};

export function nameOf(key: string): string {
  return kNames[key] ?? key.replaceAll('_', ' ');
}

function valueText(value: unknown): string {
  if (typeof value === 'number') return Number.isInteger(value) ? count(value) : number(value, 4);
  if (value === null || value === undefined) return '–';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function Facts({ title, of, skip = [] }: { title: string; of?: Record<string, unknown>; skip?: string[] }) {
  const rows = Object.entries(of ?? {}).filter(([key]) => !skip.includes(key));
  if (!rows.length) return null;
  return (
    <section class="facts">
      <h3>{title}</h3>
      <dl>{rows.map(([key, value]) => <div><dt>{nameOf(key)}</dt><dd><bdi>{valueText(value)}</bdi></dd></div>)}</dl>
    </section>
  );
}

/** One x for all: uPlot wants the curves aligned. */
export function aligned(series: Series[], logY: boolean): Pick<Figure, 'x' | 'ys' | 'names'> {
  const x = [...new Set(series.flatMap((each) => each.x))].sort((a, b) => a - b);
  const at = new Map(x.map((value, i) => [value, i]));
  const ys = series.map((each) => {
    const y = new Array<number | null>(x.length).fill(null);
    each.x.forEach((value, i) => {
      const v = each.y[i];
      if (Number.isFinite(v) && !(logY && v <= 0)) y[at.get(value)!] = v;
    });
    return y;
  });
  return { x, ys, names: series.map((each) => each.name) };
}

function Training({ series }: { series: Series[] }) {
  const [hidden, setHidden] = useState<Set<string>>(new Set());
  const [axis, setAxis] = useState<'linear' | 'log'>('log');
  const shown = series.filter((each) => !hidden.has(each.name));
  const figure = useMemo<Figure>(() => ({
    kind: 'lines', ...aligned(shown, axis === 'log'), xLabel: 'step', yLabel: '', logY: axis === 'log',
  }), [series, hidden, axis]);
  return (
    <FigureFrame title="Training curves" svg={() => svgOf(figure, 'Training curves')}
      tools={<Segments name="Scale of the curves" value={axis} onChange={setAxis} options={[['linear', 'Linear'], ['log', 'Log']]} />}>
      {figure.x.length ? <Plot figure={figure} height={220} summary={`Training curves: ${figure.names.join(', ')}`} />
        : <Empty title="No curve is chosen" />}
      <div class="legend">
        {series.map((each) => {
          const at = shown.indexOf(each);
          return (
            <button type="button" class="ghost" aria-pressed={at >= 0} onClick={() => {
              const next = new Set(hidden);
              if (!next.delete(each.name)) next.add(each.name);
              setHidden(next);
            }}><i class={`key ${at >= 0 ? `s${(at % 7) + 1}` : ''}`} />{each.name.replaceAll('_', ' ')}</button>
          );
        })}
      </div>
    </FigureFrame>
  );
}

export function Overview({ index, table }: { index: Index; table: Table }) {
  const histogram = index.density_histogram;
  const density = useMemo<Figure | null>(() => (histogram && histogram.counts.length && histogram.edges.length === histogram.counts.length + 1 ? {
    kind: 'bars', x: histogram.edges, ys: [histogram.counts], names: ['features'], xLabel: 'density (log₁₀ of the part of tokens it fires on)',
    yLabel: 'features', xText: (x) => percent(10 ** x),
  } : null), [histogram]);
  const summary = Object.entries(index.summary ?? {});
  const series = index.training?.series ?? [];
  const dataset = index.dataset ?? {};
  return (
    <div class="page overview">
      <header class="title">
        <h1>{index.title || String(index.sae?.name ?? 'Features')}</h1>
        <p class="muted">{count(table.count)} features{dataset.tokens ? <> over {count(Number(dataset.tokens))} tokens</> : null}
          {dataset.name ? <> of <bdi>{String(dataset.name)}</bdi></> : null}{index.created ? <> · {date(index.created)} UTC</> : null}</p>
        <a class="button" href={address('features')}>Browse the features</a>
      </header>
      {summary.length > 0 && (
        <dl class="tiles">
          {summary.map(([key, value]) => (
            <div title={kMeanings[key]}><dt>{nameOf(key)}</dt><dd>{Number.isInteger(value) ? count(value) : number(value, 3)}
              {(key === 'dead' || key === 'dense') && value > 0 && table.count > 0 && <small> {percent(value / table.count)}</small>}</dd></div>
          ))}
        </dl>
      )}
      <div class="grid">
        {density && (
          <FigureFrame title="How often features fire" svg={() => svgOf(density, 'Feature density')}>
            <Plot figure={density} height={220} summary={`Histogram of the density of ${table.count} features`}
              onPick={(at) => go(address('features', null, {
                dmin: String(Number((10 ** density.x[at]).toPrecision(4))), dmax: String(Number((10 ** density.x[at + 1]).toPrecision(4))), sort: '-density',
              }))} />
            <p class="hint">Click a bar for its features.</p>
          </FigureFrame>
        )}
        {series.length > 0 && <Training series={series} />}
        {table.has('map_x') && index.map?.method !== 'none' && (
          <div class="wide"><FeatureMap table={table} method={index.map?.method ?? 'map'} /></div>
        )}
      </div>
      <div class="facts-grid">
        <Facts title="Autoencoder" of={index.sae} />
        <Facts title="Model" of={index.model} />
        <Facts title="Text" of={index.dataset} />
      </div>
    </div>
  );
}
