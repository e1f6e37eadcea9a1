// One feature: where it fires, what it writes, who stands near it.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { count, fixed, number, percent } from '../data/format';
import { messageOf } from '../data/api';
import { readFeature } from '../data/source';
import { address, copy, download, labels, place } from '../data/state';
import { memory, Store, useStore } from '../data/store';
import type { Table } from '../data/table';
import type { Example, FeatureRecord, Group, Index } from '../data/types';
import { Bar, Empty, FeatureName, featureAddress, Segments, tokenEvents, Tokens, TokenText } from '../ui/common';
import { FigureFrame, Plot, svgOf } from '../ui/figure';
import type { Figure } from '../ui/figure';
import { listed } from './list';
import { steerWith } from './playground';

type Layout = 'lines' | 'text';
const layout = new Store<Layout>(memory.get('drrik-examples') === 'text' ? 'text' : 'lines');
function setLayout(value: Layout): void {
  layout.set(value);
  memory.set('drrik-examples', value);
}

export function FeatureView({ index, table, live }: { index: Index; table: Table; live: boolean }) {
  const here = useStore(place);
  const feature = /^\d+$/.test(here.item) ? Number(here.item) : -1;
  const [record, setRecord] = useState<FeatureRecord | null>(null);
  const [trouble, setTrouble] = useState('');
  useEffect(() => {
    let stale = false;
    setTrouble('');
    if (feature >= 0 && feature < table.count) {
      readFeature(feature, index.chunk_size).then(
        (value) => !stale && setRecord(value),
        (error) => !stale && setTrouble(messageOf(error)));
    }
    return () => { stale = true; };
  }, [feature]);
  if (feature < 0 || feature >= table.count) {
    return <div class="feature"><Empty title={`There is no feature ${here.item || ''}`}><p>Features are numbered 0 to {count(table.count - 1)}.</p></Empty></div>;
  }
  if (trouble) return <div class="feature"><Empty title={`Feature ${feature} cannot be shown`}><p>{trouble}</p></Empty></div>;
  // The one before stays until the next is there: no flash between the two.
  if (!record) return <div class="feature" aria-busy="true" />;
  return <Loaded key={record.feature} record={record} index={index} table={table} live={live} />;
}

function Loaded({ record, index, table, live }: { record: FeatureRecord; index: Index; table: Table; live: boolean }) {
  const f = record.feature;
  const dead = !(record.active > 0);
  const order = useStore(listed);
  const at = order.indexOf(f);
  const top = useRef<HTMLDivElement>(null);
  useEffect(() => {
    top.current?.scrollTo(0, 0);
    document.title = `Feature ${f} · ${index.title ?? 'drrik'}`;
  }, [f]);
  const step = (by: number) => (at >= 0 && at + by >= 0 && at + by < order.length ? featureAddress(order[at + by]) : undefined);
  const stats: [string, string, string?][] = [
    ['Density', percent(record.density), `${count(record.active)} tokens`],
    ['Max', number(record.max)],
    ['Mean where active', number(record.mean_active)],
    ['Decoder norm', number(record.decoder_norm)],
    ['Encoder bias', number(record.encoder_bias)],
  ];
  return (
    <div class="feature" ref={top} tabIndex={-1}>
      <header class="feature-head">
        <div class="feature-title">
          <a class="back" href={address('features', null, place.get().params)} aria-label="Back to the list">←</a>
          <h1>Feature {f}</h1>
          <nav aria-label="Neighbours in the list">
            <a class="button ghost square" aria-label="Previous feature in the list" aria-disabled={!step(-1)} href={step(-1)}>↑</a>
            <a class="button ghost square" aria-label="Next feature in the list" aria-disabled={!step(1)} href={step(1)}>↓</a>
          </nav>
          <span class="spring" />
          <button type="button" class="ghost" onClick={() => copy(location.href.replace(/#.*/, '') + address('feature', f), 'Link')}>Copy link</button>
          {live && <button type="button" class="primary" onClick={() => steerWith(f, record.max)}>Steer</button>}
        </div>
        <Label feature={f} key={f} />
        <dl class="stats">{stats.map(([name, value, more]) => <div><dt>{name}</dt><dd>{value}{more && <small> {more}</small>}</dd></div>)}</dl>
      </header>
      <div class="feature-body">
        <div class="examples">
          {dead ? <Empty title="This feature never fired"><p>It was not active on any token of the text.</p></Empty>
            : <Examples record={record} />}
        </div>
        <div class="rail">
          {!dead && record.histogram && record.histogram.counts.length > 0 && <Histogram record={record} />}
          {(record.promoted.length > 0 || record.suppressed.length > 0) && <Logits record={record} />}
          <Near title="Nearest by decoder cosine" rows={record.nearest.map(([g, v]) => [g, v])} table={table} />
          <Near title={`Fires together${index.coactivation ? ` (${index.coactivation})` : ''}`} table={table}
            rows={record.coactive.map(([g, v, n]) => [g, v, n])} />
          {record.neurons.length > 0 && <Neurons neurons={record.neurons} />}
        </div>
      </div>
    </div>
  );
}

function Label({ feature }: { feature: number }) {
  const names = useStore(labels);
  const trouble = useStore(labels.trouble);
  const [text, setText] = useState<string | null>(null);
  const kept = names.get(feature) ?? '';
  const keep = () => {
    if (text !== null && text.trim() !== kept) labels.name(feature, text.trim());
    setText(null);
  };
  return (
    <div class="label-row">
      <input id="label" class="label-input" aria-label={`Label of feature ${feature}`} placeholder="Add a label" value={text ?? kept} maxLength={400} autocomplete="off"
        onInput={(event) => setText(event.currentTarget.value)} onBlur={keep}
        onKeyDown={(event) => {
          if (event.key === 'Enter') event.currentTarget.blur();
          if (event.key === 'Escape') {
            event.stopPropagation();
            setText(null);
            event.currentTarget.value = kept;
            event.currentTarget.blur();
          }
        }} />
      {names.size > 0 && <button type="button" class="link save-labels" title="All labels, as one small file" onClick={() => download('labels.json', labels.file())}>Download labels.json</button>}
      {trouble && <span class="error" role="alert">{trouble}</span>}
    </div>
  );
}

function Examples({ record }: { record: FeatureRecord }) {
  const how = useStore(layout);
  const [only, setOnly] = useState('all');
  const groups = record.groups.filter((group) => group.examples.length > 0);
  const shown = groups.filter((group) => only === 'all' || group.name === only);
  return (
    <>
      <div class="examples-tools">
        <Segments name="Groups of examples" value={only} onChange={setOnly}
          options={[['all', 'All'], ...groups.map((group) => [group.name, group.name === 'top' ? 'Top' : group.name] as const)]} />
        <Segments name="Layout of examples" value={how} onChange={setLayout} options={[['lines', 'Lines'], ['text', 'Text']]} />
      </div>
      {shown.map((group) => <GroupView key={group.name} group={group} scale={record.max} how={how} />)}
      <p class="scale" aria-hidden="true"><span>0</span>{Array.from({ length: 10 }, (_, i) => <i class={`t a${i}`} />)}<span>{number(record.max)}</span></p>
    </>
  );
}

function GroupView({ group, scale, how }: { group: Group; scale: number; how: Layout }) {
  return (
    <section class="group">
      <h2>{group.name === 'top' ? 'Top activations' : group.name}<span class="muted"> {number(group.low)} to {number(group.high)} · {group.examples.length} examples</span></h2>
      <ol class={how}>{group.examples.map((example, i) => <ExampleRow key={i} example={example} scale={scale} how={how} />)}</ol>
    </section>
  );
}

function ExampleRow({ example, scale, how }: { example: Example; scale: number; how: Layout }) {
  const [open, setOpen] = useState(false);
  const { tokens, values, peak } = example;
  const value = values[peak];
  const events = useMemo(() => tokenEvents(tokens, values, peak), [example]);
  const lined = how === 'lines' && !open;
  const toggle = (event: Event) => {
    // Text being selected is not a click.
    if (how === 'lines' && !getSelection()?.toString()) setOpen(!open);
    event.stopPropagation();
  };
  const key = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && how === 'lines' && event.target === event.currentTarget) {
      event.stopPropagation();
      setOpen(!open);
    } else {
      events.onKeyDown(event);
    }
  };
  const from = example.sequence === undefined ? '' : `sequence ${count(example.sequence)}${example.position === undefined ? '' : `, position ${count(example.position)}`}`;
  return (
    <li>
      <span class="value">{fixed(value)}</span>
      <div class={lined ? 'example line' : 'example block'} tabIndex={0} role="group" dir="auto" aria-label={`Example, activation ${number(value)}`}
        {...events} onKeyDown={key} onClick={toggle}>
        {lined ? (
          <>
            <span class="before"><span><Tokens tokens={tokens} values={values} scale={scale} to={peak} /></span></span>
            <span class="after"><Tokens tokens={tokens} values={values} scale={scale} peak={peak} from={peak} /></span>
          </>
        ) : <Tokens tokens={tokens} values={values} scale={scale} peak={peak} breaks />}
      </div>
      {!lined && how === 'lines' && from && <span class="where">{from}</span>}
    </li>
  );
}

function Histogram({ record }: { record: FeatureRecord }) {
  const [axis, setAxis] = useState<'log' | 'linear'>('log');
  const figure = useMemo<Figure>(() => {
    const { width, counts } = record.histogram!;
    return {
      kind: 'bars', x: [...counts, 0].map((_, i) => i * width), ys: [counts], names: ['tokens'], xLabel: 'activation', yLabel: 'tokens', logY: axis === 'log',
    };
  }, [record, axis]);
  return (
    <FigureFrame title="Activations" svg={() => svgOf(figure, `Feature ${record.feature}: activations`)}
      tools={<Segments name="Scale of counts" value={axis} onChange={setAxis} options={[['linear', 'Lin'], ['log', 'Log']]} />}>
      <Plot figure={figure} height={150} summary={`Histogram of the activations of feature ${record.feature}`} />
    </FigureFrame>
  );
}

function Logits({ record }: { record: FeatureRecord }) {
  const scale = Math.max(...[...record.promoted, ...record.suppressed].map(([, , v]) => Math.abs(v)), 1e-9);
  const part = (title: string, rows: [string, number, number][]) => (
    <div>
      <h3>{title}</h3>
      <ol class="logits">{rows.map(([token, id, value]) => (
        <li title={`token ${id}`}><bdi class="chip"><TokenText token={token} ends /></bdi><span class="num">{fixed(value)}</span><Bar value={value} scale={scale} /></li>
      ))}</ol>
    </div>
  );
  return (
    <section class="figure" aria-label="Logit lens">
      <header><h2>Logit lens</h2></header>
      <div class="two">{part('Promotes', record.promoted)}{part('Suppresses', record.suppressed)}</div>
    </section>
  );
}

function Near({ title, rows, table }: { title: string; rows: number[][]; table: Table }) {
  const [all, setAll] = useState(false);
  if (!rows.length) return null;
  const scale = Math.max(...rows.map(([, v]) => Math.abs(v)), 1e-9);
  const shown = all ? rows : rows.slice(0, 8);
  return (
    <section class="figure" aria-label={title}>
      <header><h2>{title}</h2>{rows.length > 8 && <button type="button" class="link" onClick={() => setAll(!all)}>{all ? 'Fewer' : `All ${rows.length}`}</button>}</header>
      <ol class="near">{shown.map(([g, value, n]) => (
        <li><a href={featureAddress(g)}><span class="id">{g}</span><FeatureName feature={g} table={table} />
          <span class="num" title={n === undefined ? undefined : `${count(n)} tokens`}>{fixed(value)}</span><Bar value={value} scale={Math.max(scale, title.startsWith('Nearest') ? 1 : 0)} /></a></li>
      ))}</ol>
    </section>
  );
}

function Neurons({ neurons }: { neurons: [number, number][] }) {
  const scale = Math.max(...neurons.map(([, w]) => Math.abs(w)), 1e-9);
  return (
    <section class="figure" aria-label="Neurons">
      <header><h2>Neurons it writes to</h2></header>
      <ol class="neurons">{neurons.map(([n, w]) => <li><span class="id">{n}</span><Bar value={w} scale={scale} signed /><span class="num">{fixed(w)}</span></li>)}</ol>
    </section>
  );
}
