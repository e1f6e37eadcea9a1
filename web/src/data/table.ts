// The features as columns of numbers, and their selection: search, filters, order.
import { bytesOf } from './source';
import type { Index } from './types';

export const kColumns = [
  'density', 'max', 'mean', 'decoder_norm', 'encoder_bias', 'map_x', 'map_y', 'similarity',
] as const;
export type Column = (typeof kColumns)[number];

export interface Table {
  count: number;
  columns: Record<Column, Float32Array>;
  has: (column: Column) => boolean;
  firesOn: string[][];
  promotes: string[][];
}

export function tableOf(index: Index): Table {
  const columns = {} as Record<Column, Float32Array>;
  let count = 0;
  for (const name of kColumns) {
    const text = index.columns?.[name];
    if (!text) continue;
    const bytes = bytesOf(text);
    columns[name] = new Float32Array(bytes.buffer, 0, bytes.length >> 2);
    count = Math.max(count, columns[name].length);
  }
  const present = new Set<Column>();
  for (const name of kColumns) {
    if (columns[name]?.length === count) present.add(name);
    else columns[name] = new Float32Array(count).fill(NaN);
  }
  return {
    count, columns, has: (column) => present.has(column),
    firesOn: index.fires_on ?? [], promotes: index.promotes ?? [],
  };
}

export type State = 'all' | 'alive' | 'dead' | 'labelled' | 'unlabelled';
export type SortKey = 'feature' | 'label' | 'density' | 'max' | 'mean' | 'similarity';

export interface Selection {
  query: string;
  sort: SortKey;
  descending: boolean;
  state: State;
  densityLow?: number;
  densityHigh?: number;
  maxLow?: number;
  maxHigh?: number;
  similarityLow?: number;
  similarityHigh?: number;
}

/** Query words: `fires:`, `promotes:`, `label:` name where to look; a bare one looks everywhere. */
interface Term {
  where: 'any' | 'fires' | 'promotes' | 'label';
  text: string;
}

export function termsOf(query: string): Term[] {
  const terms: Term[] = [];
  for (const match of query.matchAll(/(?:(fires|promotes|label):)?(?:"([^"]*)"|(\S+))/gi)) {
    const text = (match[2] ?? match[3] ?? '').toLowerCase();
    if (text) terms.push({ where: (match[1]?.toLowerCase() ?? 'any') as Term['where'], text });
  }
  return terms;
}

function anyHolds(tokens: string[] | undefined, text: string): boolean {
  return tokens?.some((token) => token.toLowerCase().includes(text)) ?? false;
}

export function holds(table: Table, labels: Map<number, string>, feature: number, term: Term): boolean {
  const { where, text } = term;
  if (where === 'any' || where === 'fires') {
    if (anyHolds(table.firesOn[feature], text)) return true;
  }
  if (where === 'any' || where === 'promotes') {
    if (anyHolds(table.promotes[feature], text)) return true;
  }
  if (where === 'any' || where === 'label') {
    return labels.get(feature)?.toLowerCase().includes(text) ?? false;
  }
  return false;
}

/** A query that is one number means the feature of that number, too. */
export function featureNamed(query: string, count: number): number | null {
  const match = /^#?(\d{1,9})$/.exec(query.trim());
  const feature = match ? Number(match[1]) : -1;
  return feature >= 0 && feature < count ? feature : null;
}

function within(value: number, low?: number, high?: number): boolean {
  return !(low !== undefined && !(value >= low)) && !(high !== undefined && !(value <= high));
}

/** The features that pass, in order. `also` pass the query whatever it says (found in examples). */
export function select(
  table: Table, labels: Map<number, string>, selection: Selection, also?: Set<number>,
): Uint32Array {
  const { density, max, mean, similarity } = table.columns;
  const terms = termsOf(selection.query);
  const named = featureNamed(selection.query, table.count);
  const passing = new Uint32Array(table.count);
  let count = 0;
  for (let f = 0; f < table.count; ++f) {
    const alive = density[f] > 0;
    if (selection.state === 'alive' && !alive) continue;
    if (selection.state === 'dead' && alive) continue;
    if (selection.state === 'labelled' && !labels.has(f)) continue;
    if (selection.state === 'unlabelled' && labels.has(f)) continue;
    if (!within(density[f], selection.densityLow, selection.densityHigh)) continue;
    if (!within(max[f], selection.maxLow, selection.maxHigh)) continue;
    if (!within(similarity[f], selection.similarityLow, selection.similarityHigh)) continue;
    if (terms.length && f !== named && !also?.has(f) &&
        !terms.every((term) => holds(table, labels, f, term))) continue;
    passing[count++] = f;
  }
  const features = passing.slice(0, count);
  const sign = selection.descending ? -1 : 1;
  if (selection.sort === 'label') {
    // Those without a label stand last either way.
    const order = Array.from(features).sort((a, b) => {
      const one = labels.get(a), other = labels.get(b);
      if (one === undefined || other === undefined) {
        return one === other ? a - b : one === undefined ? 1 : -1;
      }
      return sign * one.localeCompare(other) || a - b;
    });
    features.set(order);
  } else if (selection.sort !== 'feature') {
    const column = { density, max, mean, similarity }[selection.sort];
    // NaN last either way; equal values by number, so that the order is one order.
    features.sort((a, b) => {
      const one = column[a], other = column[b];
      if (Number.isNaN(one) || Number.isNaN(other)) {
        return Number.isNaN(one) && Number.isNaN(other) ? a - b : Number.isNaN(one) ? 1 : -1;
      }
      return sign * (one - other) || a - b;
    });
  } else if (selection.descending) {
    features.reverse();
  }
  if (named !== null) {
    const at = features.indexOf(named);
    if (at > 0) {
      features.copyWithin(1, 0, at);
      features[0] = named;
    }
  }
  return features;
}

// The selection as parameters of the page's address, defaults left out.
const kNumbers = [
  ['densityLow', 'dmin'], ['densityHigh', 'dmax'], ['maxLow', 'max.min'], ['maxHigh', 'max.max'],
  ['similarityLow', 'sim.min'], ['similarityHigh', 'sim.max'],
] as const;

export function selectionOf(params: URLSearchParams): Selection {
  const sorts: SortKey[] = ['feature', 'label', 'density', 'max', 'mean', 'similarity'];
  const states: State[] = ['all', 'alive', 'dead', 'labelled', 'unlabelled'];
  const sort = params.get('sort') ?? '';
  const key = sort.replace(/^-/, '') as SortKey;
  const state = params.get('show') as State;
  const selection: Selection = {
    query: params.get('q') ?? '',
    sort: sorts.includes(key) ? key : 'feature',
    descending: sort.startsWith('-'),
    state: states.includes(state) ? state : 'all',
  };
  for (const [field, name] of kNumbers) {
    const text = params.get(name);
    if (text && Number.isFinite(Number(text))) selection[field] = Number(text);
  }
  return selection;
}

export function paramsOf(selection: Selection): URLSearchParams {
  const params = new URLSearchParams();
  if (selection.query) params.set('q', selection.query);
  if (selection.sort !== 'feature' || selection.descending) {
    params.set('sort', (selection.descending ? '-' : '') + selection.sort);
  }
  if (selection.state !== 'all') params.set('show', selection.state);
  for (const [field, name] of kNumbers) {
    const value = selection[field];
    if (value !== undefined) params.set(name, String(Number(value.toPrecision(4))));
  }
  return params;
}
