// The features as rows, only those in view in the document.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { count, fixed, number, percent } from '../data/format';
import { address, deepSearch, go, labels, place, searchExamples, stopSearch } from '../data/state';
import { Store, useStore } from '../data/store';
import type { Selection, SortKey, State, Table } from '../data/table';
import { paramsOf, select, selectionOf, termsOf } from '../data/table';
import type { Index } from '../data/types';
import { Bar, Chip, Empty } from '../ui/common';

/** The features of the list in its order, for j and k wherever one is. */
export const listed = new Store<Uint32Array>(new Uint32Array());
/** The row that the keyboard is on. */
export const cursor = new Store<number>(-1);

// Browsers end a document near 2^24 pixels; past this the rows share the scroll bar.
const kTallest = 8e6;

const kSorts: readonly (readonly [SortKey, string])[] = [
  ['feature', 'Number'], ['density', 'Density'], ['max', 'Max'], ['mean', 'Mean'], ['similarity', 'Similarity'], ['label', 'Label'],
];

function logPart(density: number): number {
  return density > 0 ? Math.max(0.02, 1 + Math.log10(density) / 6) : 0;
}

export function FeatureList({ index, table, compact }: { index: Index; table: Table; compact: boolean }) {
  const here = useStore(place);
  const names = useStore(labels);
  const deep = useStore(deepSearch);
  const row = useStore(cursor);
  const selection = useMemo(() => selectionOf(here.params), [here.params.toString()]);
  const found = deep?.query === selection.query ? deep : null;
  const features = useMemo(() => select(table, names, selection, found?.found),
    [table, selection, names, found?.found.size]);
  useEffect(() => listed.set(features), [features]);
  const maxima = useMemo(() => ({
    max: Math.max(1e-9, table.columns.max.reduce((a, b) => Math.max(a, Number.isFinite(b) ? b : 0), 0)),
  }), [table]);

  const change = (part: Partial<Selection>) => {
    if (part.query !== undefined) stopSearch();
    go(address(here.view === 'feature' ? 'feature' : 'features', here.item || null, paramsOf({ ...selection, ...part })), true);
  };
  const sortBy = (key: SortKey) => change(key === selection.sort
    ? { descending: !selection.descending }
    : { sort: key, descending: key !== 'feature' && key !== 'label' });

  const scroller = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const rowHeight = compact ? 46 : 38;
  const whole = features.length * rowHeight;
  const tall = Math.min(whole, kTallest);
  const room = Math.max(0, tall - height);
  const stretch = room > 0 && whole > tall ? (whole - height) / room : 1;
  const first = Math.max(0, Math.floor((top * stretch) / rowHeight) - 8);
  const last = Math.min(features.length, Math.ceil((top * stretch + height) / rowHeight) + 8);

  useLayoutEffect(() => {
    const element = scroller.current!;
    const observer = new ResizeObserver(() => setHeight(element.clientHeight));
    observer.observe(element);
    setHeight(element.clientHeight);
    return () => observer.disconnect();
  }, []);
  const bring = (at: number) => {
    const element = scroller.current;
    if (!element || at < 0) return;
    const y = at * rowHeight, now = element.scrollTop * stretch;
    if (y < now) element.scrollTop = y / stretch;
    else if (y + rowHeight > now + element.clientHeight) element.scrollTop = (y + rowHeight - element.clientHeight) / stretch;
  };
  // The open feature's row stays in sight, and is where j and k go on from.
  const open = here.view === 'feature' ? Number(here.item) : -1;
  useEffect(() => {
    if (open < 0) return;
    const at = features.indexOf(open);
    if (at >= 0) {
      cursor.set(at);
      bring(at);
    }
  }, [open, compact]);
  useEffect(() => bring(row), [row]);
  const search = selection.query + selection.sort + selection.descending;
  const before = useRef(search);
  useEffect(() => {
    if (before.current === search) return;
    before.current = search;
    scroller.current!.scrollTop = 0;
    cursor.set(-1);
  }, [search]);

  const terms = termsOf(selection.query);
  const hit = (token: string) => terms.some((term) => token.toLowerCase().includes(term.text));
  const filtered = Object.keys(paramsOf({ ...selection, sort: 'feature', descending: false })).length > 0 ||
    paramsOf({ ...selection, sort: 'feature', descending: false, query: '' }).toString() !== '';
  const kept = new URLSearchParams(paramsOf(selection));

  const header = (key: SortKey, text: string, className: string) => (
    <div role="columnheader" class={className} aria-sort={selection.sort === key ? (selection.descending ? 'descending' : 'ascending') : 'none'}>
      <button type="button" class="sort" onClick={() => sortBy(key)}>{text}<span aria-hidden="true">{selection.sort === key ? (selection.descending ? ' ↓' : ' ↑') : ''}</span></button>
    </div>
  );
  const rows = [];
  for (let at = first; at < last; ++at) {
    const f = features[at];
    const label = names.get(f);
    const dead = !(table.columns.density[f] > 0);
    const fires = table.firesOn[f] ?? [];
    const classes = `row${f === open ? ' open' : ''}${at === row ? ' on' : ''}${dead ? ' dead' : ''}`;
    rows.push(
      <div key={f} role="row" aria-rowindex={at + 2} class={classes} aria-selected={f === open}
        onClick={(event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          cursor.set(at);
          go(address('feature', f, kept));
        }}>
        <div role="gridcell" class="c-id"><a href={address('feature', f, kept)} tabIndex={at === row || (row < first && at === first) ? 0 : -1}
          onFocus={() => cursor.get() !== at && cursor.set(at)}>{f}</a></div>
        <div role="gridcell" class="c-name">
          {label && <bdi class={`label${terms.some((term) => label.toLowerCase().includes(term.text)) ? ' hit' : ''}`}>{label}</bdi>}
          {dead && !label ? <span class="quiet">dead</span> : fires.map((token) => <Chip token={token} hit={hit(token)} />)}
          {found?.found.has(f) && <span class="badge">in examples</span>}
        </div>
        {!compact && <div role="gridcell" class="c-promotes">{(table.promotes[f] ?? []).map((token) => <Chip token={token} hit={hit(token)} />)}</div>}
        <div role="gridcell" class="c-num c-density"><span>{percent(table.columns.density[f])}</span><Bar value={logPart(table.columns.density[f])} scale={1} /></div>
        {!compact && <div role="gridcell" class="c-num c-max"><span>{dead ? '–' : fixed(table.columns.max[f])}</span><Bar value={dead ? 0 : table.columns.max[f]} scale={maxima.max} /></div>}
        {!compact && <div role="gridcell" class="c-num c-mean">{dead ? '–' : fixed(table.columns.mean[f])}</div>}
        {!compact && <div role="gridcell" class="c-num c-sim">{Number.isNaN(table.columns.similarity[f]) ? '–' : fixed(table.columns.similarity[f])}</div>}
      </div>);
  }
  return (
    <section class={`list${compact ? ' compact' : ''}`} aria-label="Features">
      <div class="list-tools">
        <Search selection={selection} onChange={(query) => change({ query })} />
        <select aria-label="Sort by" value={selection.sort} onChange={(event) => {
          const key = event.currentTarget.value as SortKey;
          change({ sort: key, descending: key !== 'feature' && key !== 'label' });
        }}>{kSorts.map(([key, text]) => <option value={key} selected={key === selection.sort}>{text}</option>)}</select>
        <button type="button" class="ghost square" aria-label={selection.descending ? 'Descending; sort ascending' : 'Ascending; sort descending'}
          onClick={() => change({ descending: !selection.descending })}>{selection.descending ? '↓' : '↑'}</button>
        <Filters selection={selection} onChange={change} active={filtered} />
      </div>
      <div class="list-status">
        <span role="status">{count(features.length)} of {count(table.count)}</span>
        {selection.query.trim() !== '' && !found && (
          <button type="button" class="link" onClick={() => searchExamples(selection.query, table.count, index.chunk_size)}>Search the examples' text too</button>
        )}
        {found && (
          <span class="progress" role="status">
            {found.running
              ? <><progress max={found.total} value={found.done} aria-label="Search through the examples" /> {number(found.found.size)} found
                <button type="button" class="link" onClick={stopSearch}>Stop</button></>
              : <>{found.trouble || `${count(found.found.size)} in examples${found.done < found.total ? ` (stopped after ${Math.round((100 * found.done) / found.total)} %)` : ''}`}</>}
          </span>
        )}
        {(filtered || selection.query) && <button type="button" class="link" onClick={() => change({
          query: '', state: 'all', densityLow: undefined, densityHigh: undefined, maxLow: undefined, maxHigh: undefined, similarityLow: undefined, similarityHigh: undefined,
        })}>Clear</button>}
      </div>
      <div role="grid" class="rows" aria-label="Features" aria-rowcount={features.length + 1}>
        <div role="rowgroup" class="head">
          <div role="row" aria-rowindex={1} class="row">
            {header('feature', '#', 'c-id')}
            {header('label', compact ? 'Label or tokens' : 'Label, fires on', 'c-name')}
            {!compact && <div role="columnheader" class="c-promotes"><span class="sort">Promotes</span></div>}
            {header('density', 'Density', 'c-num c-density')}
            {!compact && header('max', 'Max', 'c-num c-max')}
            {!compact && header('mean', 'Mean', 'c-num c-mean')}
            {!compact && header('similarity', 'Similar', 'c-num c-sim')}
          </div>
        </div>
        <div role="rowgroup" class="scroller" ref={scroller} tabIndex={features.length ? -1 : undefined}
          onScroll={(event) => setTop(event.currentTarget.scrollTop)}>
          {features.length === 0
            ? <div role="row"><div role="gridcell"><Empty title="No feature passes">
              <p>Try fewer words or wider filters{selection.query && !found ? ', or search the examples’ text' : ''}.</p></Empty></div></div>
            : <Spacer height={tall} offset={whole > tall ? top - (top * stretch - first * rowHeight) : first * rowHeight}>{rows}</Spacer>}
        </div>
      </div>
    </section>
  );
}

function Spacer({ height, offset, children }: { height: number; offset: number; children: unknown }) {
  return (
    <div class="spacer" role="presentation" style={{ height: `${height}px` }}>
      <div role="presentation" style={{ transform: `translateY(${offset}px)` }}>{children as never}</div>
    </div>
  );
}

function Search({ selection, onChange }: { selection: Selection; onChange: (query: string) => void }) {
  const [text, setText] = useState(selection.query);
  const sent = useRef(selection.query);
  useEffect(() => {
    if (selection.query !== sent.current) {
      sent.current = selection.query;
      setText(selection.query);
    }
  }, [selection.query]);
  return (
    <input id="search" type="search" placeholder="Number, label or token" aria-label="Search features by number, label or token"
      title='Words are looked for in labels and tokens. fires:cat, promotes:dog, label:"proper names" look in one place.'
      value={text} spellcheck={false} autocomplete="off" onInput={(event) => {
        sent.current = event.currentTarget.value;
        setText(sent.current);
        onChange(sent.current);
      }} />
  );
}

function NumberField({ label, value, scale = 1, onChange }: { label: string; value?: number; scale?: number; onChange: (value?: number) => void }) {
  return (
    <input type="number" step="any" aria-label={label} placeholder={label.split(' ').pop()} value={value === undefined ? '' : Number((value * scale).toPrecision(4))}
      onChange={(event) => {
        const text = event.currentTarget.value;
        onChange(text === '' ? undefined : Number(text) / scale);
      }} />
  );
}

function Filters({ selection, onChange, active }: { selection: Selection; onChange: (part: Partial<Selection>) => void; active: boolean }) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const outside = (event: Event) => {
      if (!box.current?.contains(event.target as Node)) setOpen(false);
    };
    const key = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      setOpen(false);
      box.current?.querySelector('button')?.focus();
    };
    document.addEventListener('pointerdown', outside);
    document.addEventListener('keydown', key, true);
    return () => {
      document.removeEventListener('pointerdown', outside);
      document.removeEventListener('keydown', key, true);
    };
  }, [open]);
  const states: readonly (readonly [State, string])[] = [['all', 'All'], ['alive', 'Alive'], ['dead', 'Dead'], ['labelled', 'Labelled'], ['unlabelled', 'Unlabelled']];
  return (
    <div class="filters" ref={box}>
      <button type="button" class={active ? 'ghost active' : 'ghost'} aria-expanded={open} onClick={() => setOpen(!open)}>Filter</button>
      {open && (
        <div class="menu panel" role="group" aria-label="Filters">
          <label>Show <select value={selection.state} onChange={(event) => onChange({ state: event.currentTarget.value as State })}>
            {states.map(([key, text]) => <option value={key} selected={key === selection.state}>{text}</option>)}</select></label>
          <fieldset><legend>Density, % of tokens</legend>
            <NumberField label="Density from" value={selection.densityLow} scale={100} onChange={(v) => onChange({ densityLow: v })} />
            <NumberField label="Density to" value={selection.densityHigh} scale={100} onChange={(v) => onChange({ densityHigh: v })} /></fieldset>
          <fieldset><legend>Max activation</legend>
            <NumberField label="Max from" value={selection.maxLow} onChange={(v) => onChange({ maxLow: v })} />
            <NumberField label="Max to" value={selection.maxHigh} onChange={(v) => onChange({ maxHigh: v })} /></fieldset>
          <fieldset><legend>Similarity to the nearest feature</legend>
            <NumberField label="Similarity from" value={selection.similarityLow} onChange={(v) => onChange({ similarityLow: v })} />
            <NumberField label="Similarity to" value={selection.similarityHigh} onChange={(v) => onChange({ similarityHigh: v })} /></fieldset>
        </div>
      )}
    </div>
  );
}
