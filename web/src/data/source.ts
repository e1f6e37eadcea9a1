// Reads the dashboard's data: from elements of this very file when it was packed into one, otherwise
// by adding the script files beside it, which, unlike fetch, works for a page opened from disk.
import type { FeatureRecord, Index } from './types';

const kKeptChunks = 64;

type Pending = { resolve: (value: unknown) => void; reject: (reason: Error) => void };
const pending = new Map<string, Pending>();

function arrived(key: string, value: unknown): void {
  pending.get(key)?.resolve(value);
  pending.delete(key);
}

// The names that the data files call.
(window as unknown as Record<string, unknown>).drrik = {
  index: (value: unknown) => arrived('index', value),
  chunk: (number: number, records: unknown) => arrived(`chunk-${number}`, records),
};

function fromScript(key: string, file: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const script = document.createElement('script');
    const fail = (why: string) => {
      pending.delete(key);
      reject(new Error(`${file}: ${why}`));
    };
    pending.set(key, { resolve, reject });
    script.onload = () => {
      script.remove();
      if (pending.has(key)) fail('holds something else than was looked for');
    };
    script.onerror = () => {
      script.remove();
      fail('cannot be read; is the data folder beside the page?');
    };
    script.src = file;
    document.head.append(script);
  });
}

async function fromElement(element: Element): Promise<unknown> {
  const text = (element.textContent ?? '').trim();
  const zipped = bytesOf(text);
  const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream('gzip'));
  return JSON.parse(await new Response(stream).text());
}

export function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; ++i) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function read(key: string, file: string): Promise<unknown> {
  const element = document.getElementById(`drrik-${key}`);
  return element ? fromElement(element) : fromScript(key, file);
}

export function packed(): boolean {
  return document.getElementById('drrik-index') !== null;
}

export async function readIndex(): Promise<Index> {
  const index = (await read('index', 'data/index.js')) as Index;
  if (index?.format !== 'drrik-dashboard') {
    throw new Error(`the data's format is ${JSON.stringify(index?.format)}, not "drrik-dashboard"`);
  }
  if (index.version !== 1) {
    throw new Error(`the data's version is ${index.version}; this page reads version 1`);
  }
  return index;
}

// In order of use, the latest last.
const chunks = new Map<number, Promise<FeatureRecord[]>>();

/** The records of features [number·chunk_size, …). The latest read are kept. */
export function readChunk(number: number): Promise<FeatureRecord[]> {
  let chunk = chunks.get(number);
  chunks.delete(number);
  chunk ??= read(`chunk-${number}`, `data/features/${number}.js`) as Promise<FeatureRecord[]>;
  chunks.set(number, chunk);
  chunk.catch(() => chunks.delete(number));
  for (const oldest of chunks.keys()) {
    if (chunks.size <= kKeptChunks) break;
    chunks.delete(oldest);
  }
  return chunk;
}

export async function readFeature(feature: number, chunkSize: number): Promise<FeatureRecord> {
  const records = await readChunk(Math.floor(feature / chunkSize));
  const record = records.find((each) => each.feature === feature);
  if (!record) throw new Error(`feature ${feature} is not in its part of the data`);
  return record;
}
