// Writes a dashboard's folder (or one packed file) as `drrik dashboard` does, of invented features:
//   node make_fixture.mjs DIR [--features N] [--packed]
// Everything is drawn from one seed, so that tests can name what they find. Some tokens and labels are
// hostile on purpose: markup, control characters, marks of direction.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';

export const hostile = '<img src=x onerror=alert(1)>';
const words = (' the of and to in a morning evening light river stone cat dog bird winter summer old new said went was were he she they' +
  ' captain ship sea wind house garden letter king queen number one two three because although never always').trim().split(' ').map((w) => ` ${w}`);
const odd = ['\n', '\t', ' ', '.', ',', '"', hostile, '</script><b>', '\u0000', '\u202e', '\u200b', '日本', 'é', '🙂', ' antidisestablishmentarianism'.repeat(3)];

export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** JSON that may stand in a script element. */
export function scriptSafe(value) {
  return JSON.stringify(value).replaceAll('<', '\\u003c').replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029');
}

const base64 = (array) => Buffer.from(array.buffer).toString('base64');

export function makeFixture(dir, { features = 512, packed = false, chunkSize = 64 } = {}) {
  const random = randomFrom(7);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const token = () => (random() < 0.93 ? pick(words) : pick(odd));
  const column = () => new Float32Array(features);
  const columns = { density: column(), max: column(), mean: column(), decoder_norm: column(), encoder_bias: column(), map_x: column(), map_y: column(), similarity: column() };
  const fires = [], promotes = [];
  for (let f = 0; f < features; ++f) {
    const dead = f % 17 === 5;
    columns.density[f] = dead ? 0 : 10 ** (-5.5 + 4.5 * random());
    columns.max[f] = dead ? 0 : 1 + 8 * random() ** 2;
    columns.mean[f] = columns.max[f] * 0.3;
    columns.decoder_norm[f] = 1;
    columns.encoder_bias[f] = -random();
    const cluster = f % 9;
    const spread = 0.6 + random();
    const angle = random() * 2 * Math.PI;
    columns.map_x[f] = 4 * Math.cos(cluster) + spread * random() * Math.cos(angle);
    columns.map_y[f] = 4 * Math.sin(cluster * 1.7) + spread * random() * Math.sin(angle);
    columns.similarity[f] = random() ** 2;
    fires.push(dead ? [] : [words[f % words.length], token(), token()].filter((t, i, all) => all.indexOf(t) === i));
    promotes.push([words[(f * 7 + 3) % words.length], token()]);
  }
  fires[3] = [hostile, ' cat'];
  const counts = new Array(24).fill(0);
  for (const d of columns.density) if (d > 0) ++counts[Math.min(23, Math.floor((Math.log10(d) + 6) * 4))];
  const steps = Array.from({ length: 120 }, (_, i) => i * 100);
  const index = {
    format: 'drrik-dashboard', version: 1, title: 'Fixture autoencoder', created: '2026-01-02T03:04:05Z', drrik: '0.0.0',
    model: { name: 'fixture/model', d_model: 64, n_layers: 4, vocab_size: 512 },
    sae: { name: 'fixture-sae', architecture: 'topk', d_in: 64, d_sae: features, hook: 'mlp_out', layer: 2, l0_target: 16 },
    dataset: { name: 'fixture.jsonl', tokens: 1000000, sequences: 8000, context_before: 12, context_after: 10, special_tokens: 'excluded' },
    summary: { l0: 16.2, fvu: 0.213, mse: 0.0421, dead: columns.density.filter((d) => d === 0).length, dense: 3 },
    density_histogram: { edges: Array.from({ length: 25 }, (_, i) => -6 + i / 4), counts },
    training: { series: [
      { name: 'train_loss', x: steps, y: steps.map((s) => 2 / (1 + s / 900) + 0.02 * random()) },
      { name: 'validation_loss', x: steps.filter((_, i) => i % 5 === 0), y: steps.filter((_, i) => i % 5 === 0).map((s) => 2.05 / (1 + s / 900)) },
    ] },
    map: { method: 'pca' }, coactivation: 'jaccard', chunk_size: chunkSize,
    columns: Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, base64(values)])),
    fires_on: fires, promotes, labels: { 12: 'dogs', 7: hostile, 40: 'mornings' },
  };
  const record = (f) => {
    const max = columns.max[f], dead = !(max > 0);
    const example = (value, at) => {
      const before = 12, length = 23;
      const tokens = Array.from({ length }, () => token());
      tokens[before] = fires[f][0] ?? ' the';
      if (f === 9 && at === 0) tokens[before + 1] = ' zebrafinch';
      const values = tokens.map(() => (random() < 0.15 ? Number((value * random() * 0.8).toFixed(4)) : 0));
      values[before] = Number(value.toFixed(4));
      return { tokens, values, peak: before, sequence: (f * 31 + at * 7) % 8000, position: (at * 13) % 128 };
    };
    const bands = [['top', 0.85, 1], ['75–100 %', 0.75, 1], ['50–75 %', 0.5, 0.75], ['25–50 %', 0.25, 0.5], ['0–25 %', 0, 0.25]];
    return {
      feature: f, density: columns.density[f], active: Math.round(columns.density[f] * 1e6), max, mean_active: max * 0.3, decoder_norm: 1, encoder_bias: columns.encoder_bias[f],
      histogram: dead ? { width: 0, counts: [] } : { width: max / 20, counts: Array.from({ length: 20 }, (_, i) => Math.round(2000 * Math.exp(-i / 3) * (0.8 + 0.4 * random()))) },
      groups: dead ? [] : bands.map(([name, low, high], b) => ({ name, low: low * max, high: high * max,
        examples: Array.from({ length: b ? 4 : 10 }, (_, i) => example(b ? max * (low + (high - low) * random()) : max * (1 - i * 0.015), i)) })),
      promoted: Array.from({ length: 10 }, (_, i) => [i ? token() : promotes[f][0], i, 1.5 - i * 0.1]),
      suppressed: Array.from({ length: 10 }, (_, i) => [token(), i + 30, -1.2 + i * 0.08]),
      nearest: Array.from({ length: 12 }, (_, i) => [(f + 1 + i * 5) % features, 0.8 - i * 0.05]),
      coactive: dead ? [] : Array.from({ length: 6 }, (_, i) => [(f + 3 + i * 11) % features, 0.4 - i * 0.05, 900 - i * 100]),
      neurons: Array.from({ length: 8 }, (_, i) => [(f * 3 + i * 19) % 256, (i % 2 ? -1 : 1) * (0.5 - i * 0.05)]),
    };
  };
  const chunk = (c) => Array.from({ length: Math.min(chunkSize, features - c * chunkSize) }, (_, i) => record(c * chunkSize + i));
  const chunks = Math.ceil(features / chunkSize);
  const page = readFileSync(join(dirname(fileURLToPath(import.meta.url)), '../dist/index.html'), 'utf8');
  mkdirSync(join(dir, 'data/features'), { recursive: true });
  if (packed) {
    const element = (id, value) => `<script type="text/plain" id="drrik-${id}">${gzipSync(JSON.stringify(value)).toString('base64')}</script>`;
    const elements = [element('index', index), ...Array.from({ length: chunks }, (_, c) => element(`chunk-${c}`, chunk(c)))];
    writeFileSync(join(dir, 'packed.html'), page.replace('<!--drrik-data-->', () => elements.join('\n')));
    return index;
  }
  writeFileSync(join(dir, 'index.html'), page.replace('<!--drrik-data-->', ''));
  writeFileSync(join(dir, 'data/index.js'), `drrik.index(${scriptSafe(index)})\n`);
  for (let c = 0; c < chunks; ++c) writeFileSync(join(dir, `data/features/${c}.js`), `drrik.chunk(${c}, ${scriptSafe(chunk(c))})\n`);
  return index;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [dir, ...options] = process.argv.slice(2);
  const at = options.indexOf('--features');
  makeFixture(dir, { features: at >= 0 ? Number(options[at + 1]) : 512, packed: options.includes('--packed') });
}
