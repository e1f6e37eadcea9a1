// The server's API, answered without a model: which features fire is made from the text, what is
// written from the prompt and the recipe, so that a test can see what it steered.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { join, normalize } from 'node:path';

const kFeatures = 512;

function activationsOf({ text, top_k = 20, features = [] }) {
  const tokens = text.match(/\s*\S+|\s+$/g) ?? [];
  const value = (t, f) => {
    let hash = 17;
    for (const c of tokens[t].trim()) hash = (hash * 31 + c.codePointAt(0)) % 9973;
    const v = ((hash + f * 97) % 101) - 88;
    return v > 0 ? v / 3 : 0;
  };
  const per = tokens.map((_, t) => Array.from({ length: kFeatures }, (_, f) => [f, value(t, f)]).filter(([, v]) => v > 0).sort((a, b) => b[1] - a[1]).slice(0, top_k));
  const max = new Map();
  per.forEach((top, t) => top.forEach(([f, v]) => { if (v > (max.get(f)?.max ?? 0)) max.set(f, { feature: f, mean: v / tokens.length, max: v, peak: t }); }));
  return {
    tokens, ids: tokens.map((_, t) => t), per_token: per, features: [...max.values()].sort((a, b) => b.max - a.max).slice(0, 100),
    values: Object.fromEntries(features.map((f) => [f, tokens.map((_, t) => value(t, f))])),
  };
}

function textOf(recipe, scale, length) {
  const words = [' the', ' river', ' was', ' quiet', ',', ' and', ' the', ' house', ' stood', ' by', ' it', '.'];
  return Array.from({ length }, (_, i) => {
    if (scale === null || !recipe.edits.length || i < 3) return words[i % words.length];
    const edit = recipe.edits[i % recipe.edits.length];
    return ` f${edit.feature}×${(edit.strength * scale).toFixed(2)}`;
  });
}

export function startMock({ dashboard, runs = true, delay = 15 } = {}) {
  const labels = {};
  const calls = [];
  const began = Date.now();
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, 'http://localhost');
    calls.push(`${request.method} ${url.pathname}`);
    let body = '';
    for await (const part of request) body += part;
    const json = (value, status = 200) => {
      response.writeHead(status, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    const path = url.pathname;
    if (path === '/api/v1/info') {
      return json({ drrik: '0.0.0', model: { name: 'fixture/model' }, sae: { name: 'fixture-sae', hook: 'mlp_out', layer: 2, d_sae: kFeatures }, dashboard: Boolean(dashboard), runs,
        limits: { max_prompt_tokens: 512, max_new_tokens: 256, max_body_bytes: 1 << 20, max_edits: 64 } });
    }
    if (path === '/api/v1/labels') return json({ format: 'drrik-labels', version: 1, labels });
    const label = /^\/api\/v1\/labels\/(\d+)$/.exec(path);
    if (label && request.method === 'PUT') {
      labels[label[1]] = JSON.parse(body).label;
      return json({ feature: Number(label[1]), label: labels[label[1]] });
    }
    if (path === '/api/v1/activations') {
      const asked = JSON.parse(body);
      if (asked.text.includes('too long')) return json({ error: { message: 'the text has 900 tokens, at most 512 are taken', type: 'invalid_request_error' } }, 400);
      return json(activationsOf(asked));
    }
    if (path === '/api/v1/steer') {
      const { recipe, baseline = true, scales = [1] } = JSON.parse(body);
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
      const streams = [...(baseline ? [['baseline', textOf(recipe, null, recipe.sampling?.max_new_tokens ?? 20)]] : []),
        ...scales.map((scale) => [`scale_${Number.isInteger(scale) ? scale.toFixed(1) : scale}`, textOf(recipe, scale, recipe.sampling?.max_new_tokens ?? 20)])];
      const length = streams[0][1].length;
      for (let i = 0; i < length && !response.destroyed; ++i) {
        for (const [stream, pieces] of streams) response.write(`data: ${JSON.stringify({ stream, text: pieces[i] })}\n\n`);
        await new Promise((resolve) => setTimeout(resolve, delay));
      }
      for (const [stream, pieces] of streams) response.write(`data: ${JSON.stringify({ stream, done: true, finish_reason: 'length', tokens: pieces.length })}\n\n`);
      return response.end('data: [DONE]\n\n');
    }
    if (path === '/api/v1/runs') {
      return json([{ id: 'run-1', path: 'sae-topk', state: 'running', step: Math.floor((Date.now() - began) / 50), updated: new Date(began).toISOString() },
        { id: 'run-0', path: 'sae-relu-long-name-of-a-run/seed-0', state: 'finished', step: 400, updated: new Date(began).toISOString() }]);
    }
    const run = /^\/api\/v1\/runs\/([^/]+)\/metrics$/.exec(path);
    if (run) {
      const after = Number(url.searchParams.get('after') ?? 0);
      const last = run[1] === 'run-1' ? Math.floor((Date.now() - began) / 50) + 40 : 400;
      const rows = [];
      for (let i = after; i < last; ++i) rows.push({ _step: i * 10, _runtime: i, 'losses/mse_loss': 1 / (1 + i / 30), 'metrics/explained_variance': 1 - 0.8 / (1 + i / 20), 'sparsity/mean_passes': 16 + Math.sin(i / 9), 'details/lr': 0.001 });
      return json({ rows, next: last });
    }
    const file = path === '/' ? 'index.html' : normalize(path).replace(/^\/+/, '');
    if (dashboard && (file === 'index.html' || file.startsWith('data/'))) {
      try {
        response.writeHead(200, { 'Content-Type': file.endsWith('.js') ? 'text/javascript' : 'text/html; charset=utf-8' });
        return response.end(readFileSync(join(dashboard, file)));
      } catch {
        return response.end();
      }
    }
    return json({ error: { message: 'not found', type: 'not_found' } }, 404);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve({
    url: `http://127.0.0.1:${server.address().port}/`, labels, calls,
    close: () => new Promise((done) => { server.closeAllConnections?.(); server.close(done); }),
  })));
}
