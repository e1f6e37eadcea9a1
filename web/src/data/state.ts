// What the whole page shares: the data, the server, the labels, where in the page one is.
import type { Info } from './api';
import { findServer, messageOf, request } from './api';
import { readChunk, readIndex } from './source';
import { memory, Store } from './store';
import type { Table } from './table';
import { tableOf } from './table';
import type { Index } from './types';

export interface Loaded {
  server: Info | null;
  index: Index | null;
  table: Table | null;
}

export type Phase = { kind: 'loading' } | { kind: 'failed'; why: string } | ({ kind: 'ready' } & Loaded);
export const phase = new Store<Phase>({ kind: 'loading' });

export async function load(): Promise<void> {
  try {
    const server = await findServer();
    let index: Index | null = null;
    if (!server || server.dashboard) index = await readIndex();
    const table = index ? tableOf(index) : null;
    labels.begin(index, server !== null);
    phase.set({ kind: 'ready', server, index, table });
  } catch (error) {
    phase.set({ kind: 'failed', why: messageOf(error) });
  }
}

/** Labels: from the data; over them the server's, or what was typed into this browser. */
class Labels extends Store<Map<number, string>> {
  private key = '';
  private live = false;
  private typed: Record<string, string> = {};
  readonly trouble = new Store<string>('');

  begin(index: Index | null, live: boolean): void {
    this.live = live;
    const map = new Map<number, string>();
    for (const [feature, label] of Object.entries(index?.labels ?? {})) map.set(Number(feature), String(label));
    if (live) {
      request<Record<string, unknown>>('GET', 'api/v1/labels').then((answer) => {
        const given = (answer.labels ?? answer) as Record<string, string>;
        const merged = new Map(this.get());
        for (const [feature, label] of Object.entries(given)) {
          if (/^\d+$/.test(feature)) merged.set(Number(feature), String(label));
        }
        this.set(merged);
      }).catch((error) => this.trouble.set(messageOf(error)));
    } else if (index) {
      this.key = `drrik-labels:${index.model?.name}:${index.sae?.name}:${index.sae?.hook}:${index.sae?.layer}`;
      try {
        this.typed = JSON.parse(memory.get(this.key) ?? '{}');
      } catch {
        this.typed = {};
      }
      for (const [feature, label] of Object.entries(this.typed)) this.put(map, Number(feature), String(label));
    }
    this.set(map);
  }

  private put(map: Map<number, string>, feature: number, label: string): void {
    if (label) map.set(feature, label);
    else map.delete(feature);
  }

  /** True once it is kept. */
  async name(feature: number, label: string): Promise<boolean> {
    this.trouble.set('');
    const map = new Map(this.get());
    this.put(map, feature, label);
    this.set(map);
    try {
      if (this.live) {
        await request('PUT', `api/v1/labels/${feature}`, { label });
      } else {
        this.typed[feature] = label;
        if (!memory.set(this.key, JSON.stringify(this.typed))) {
          throw new Error('this browser keeps nothing for a page from disk; download the labels to keep them');
        }
      }
      return true;
    } catch (error) {
      this.trouble.set(`label of feature ${feature}: ${messageOf(error)}`);
      return false;
    }
  }

  file(): string {
    const sorted = [...this.get()].sort((a, b) => a[0] - b[0]);
    const value = { format: 'drrik-labels', version: 1, labels: Object.fromEntries(sorted.map(([f, l]) => [String(f), l])) };
    return JSON.stringify(value, null, 1) + '\n';
  }
}

export const labels = new Labels(new Map());

// ---- where in the page: #/view/item?parameters

export interface Place {
  view: string;
  item: string;
  params: URLSearchParams;
}

function placeNow(): Place {
  const hash = location.hash.replace(/^#\/?/, '');
  const at = hash.indexOf('?');
  const path = (at < 0 ? hash : hash.slice(0, at)).split('/');
  let item = path.slice(1).join('/');
  try {
    item = decodeURIComponent(item);
  } catch {
    // a stray percent sign: as it is
  }
  return { view: path[0] || 'overview', item, params: new URLSearchParams(at < 0 ? '' : hash.slice(at + 1)) };
}

export const place = new Store<Place>(placeNow());
window.addEventListener('hashchange', () => place.set(placeNow()));
window.addEventListener('popstate', () => place.set(placeNow()));

export function address(view: string, item: string | number | null = null, params?: URLSearchParams | Record<string, string>): string {
  const text = params ? new URLSearchParams(params).toString() : '';
  const path = view === 'overview' ? '' : view;
  return `#/${path}${item === null || item === '' ? '' : `/${encodeURIComponent(item)}`}${text ? `?${text}` : ''}`;
}

/** Goes there; `replace` leaves no step for the back button (typing, sliders). */
export function go(to: string, replace = false): void {
  if (location.hash === to || (to === '#/' && location.hash === '')) return;
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  place.set(placeNow());
}

// ---- search through the examples' text, part by part

export interface DeepSearch {
  query: string;
  done: number;
  total: number;
  found: Set<number>;
  running: boolean;
  trouble: string;
}

export const deepSearch = new Store<DeepSearch | null>(null);

export async function searchExamples(query: string, count: number, chunkSize: number): Promise<void> {
  const text = query.replace(/^text:/i, '').replaceAll('"', '').trim().toLowerCase();
  const search: DeepSearch = { query, done: 0, total: Math.ceil(count / chunkSize), found: new Set(), running: true, trouble: '' };
  deepSearch.set(search);
  let shown = 0;
  let next = 0;
  const report = (force = false) => {
    if (deepSearch.get()?.query !== query || !search.running) return;
    if (force || performance.now() - shown > 150) {
      shown = performance.now();
      deepSearch.set({ ...search });
    }
  };
  const stopped = () => deepSearch.get()?.query !== query || !deepSearch.get()?.running;
  const worker = async () => {
    while (next < search.total && !stopped()) {
      const chunk = next++;
      for (const record of await readChunk(chunk)) {
        const hit = record.groups.some((group) => group.examples.some((example) =>
          example.tokens.join('').toLowerCase().includes(text)));
        if (hit) search.found.add(record.feature);
      }
      ++search.done;
      report();
      // The page answers to its user in between.
      await new Promise((resolve) => setTimeout(resolve));
    }
  };
  try {
    await Promise.all([worker(), worker(), worker()]);
  } catch (error) {
    search.trouble = messageOf(error);
  }
  if (!stopped()) {
    search.running = false;
    deepSearch.set({ ...search });
  }
}

export function stopSearch(): void {
  const search = deepSearch.get();
  if (search) deepSearch.set({ ...search, running: false });
}

// ---- light and dark

export type Theme = 'auto' | 'light' | 'dark';
export const theme = new Store<Theme>('auto');
const prefersDark = matchMedia('(prefers-color-scheme: dark)');
/** What is drawn on canvases follows this. */
export const dark = new Store<boolean>(false);

function apply(): void {
  const chosen = theme.get();
  const now = chosen === 'auto' ? prefersDark.matches : chosen === 'dark';
  document.documentElement.dataset.theme = now ? 'dark' : 'light';
  if (dark.get() !== now) dark.set(now);
}

export function setTheme(chosen: Theme): void {
  theme.set(chosen);
  memory.set('drrik-theme', chosen === 'auto' ? null : chosen);
  apply();
}

prefersDark.addEventListener('change', apply);
const kept = memory.get('drrik-theme');
if (kept === 'light' || kept === 'dark') theme.set(kept);
apply();

// ---- things said in passing

export const notice = new Store<string>('');
let noticeTimer = 0;
export function say(text: string): void {
  notice.set(text);
  clearTimeout(noticeTimer);
  noticeTimer = window.setTimeout(() => notice.set(''), 4000);
}

export function download(name: string, content: string | Blob, type = 'application/json'): void {
  const url = URL.createObjectURL(typeof content === 'string' ? new Blob([content], { type }) : content);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

export async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied`);
  } catch {
    // Without the permission: the old way, through a selected field.
    const field = document.createElement('textarea');
    field.value = text;
    field.className = 'offscreen';
    document.body.append(field);
    field.select();
    const done = document.execCommand('copy');
    field.remove();
    say(done ? `${what} copied` : `${what} could not be copied`);
  }
}
