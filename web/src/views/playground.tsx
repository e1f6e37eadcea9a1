// The model, live: which features a text makes fire, and what it writes once they are moved.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Activations, Info } from '../data/api';
import { messageOf, request, stream } from '../data/api';
import { count, fixed, number, plain } from '../data/format';
import type { Edit, Mode, Positions, Recipe, Sampling, Unit } from '../data/recipe';
import { decodeFromAddress, encodeForAddress, parseRecipe } from '../data/recipe';
import { address, copy, download, go, labels, place, say } from '../data/state';
import { memory, Store, useStore } from '../data/store';
import type { Table } from '../data/table';
import { select } from '../data/table';
import { Bar, Empty, FeatureName, hideTip, Segments, tokenEvents, Tokens } from '../ui/common';

// ---- what is being worked on; it outlives leaving the view

const kSampling: Required<Sampling> = { max_new_tokens: 50, temperature: 0.8, top_p: 0.9, top_k: 0, repetition_penalty: 1, seed: 42 };

const edits = new Store<Edit[]>([]);
const sampling = new Store<Required<Sampling>>(kSampling);
const prompt = new Store<string>(memory.get('drrik-prompt') ?? 'In the morning');
const recipeName = new Store<string>('');
const readText = new Store<string>('');

function scaleOf(edit: Edit): { low: number; high: number; step: number } {
  if (edit.mode === 'scale') return { low: 0, high: 5, step: 0.05 };
  if (edit.unit === 'max') return { low: -4, high: 4, step: 0.05 };
  const most = Math.max(4, Math.ceil((edit.max_activation ?? 5) * 4));
  return { low: edit.mode === 'clamp' ? 0 : -most, high: most, step: most / 200 };
}

function withFeature(feature: number, max?: number): void {
  if (edits.get().some((edit) => edit.feature === feature)) return;
  const known = max !== undefined && max > 0;
  edits.set([...edits.get(), {
    feature, mode: 'add', strength: known ? 1 : 4, unit: known ? 'max' : 'decoder', ...(known ? { max_activation: max } : {}), positions: 'all',
  }]);
}

/** From a feature's page: into the recipe, and over to the playground. */
export function steerWith(feature: number, max: number): void {
  withFeature(feature, max);
  go(address('playground'));
}

function recipeNow(server: Info): Recipe {
  const recipe: Recipe = { format: 'drrik-steering-recipe', version: 1, edits: edits.get(), sampling: sampling.get() };
  if (recipeName.get()) recipe.name = recipeName.get();
  const { model, sae } = server;
  if (typeof model?.name === 'string') recipe.model = model.name;
  if (typeof sae?.name === 'string') recipe.sae = sae.name;
  if (typeof sae?.hook === 'string') recipe.hook = sae.hook;
  if (typeof sae?.layer === 'number') recipe.layer = sae.layer;
  return recipe;
}

function take(recipe: Recipe): void {
  edits.set(recipe.edits);
  sampling.set({ ...kSampling, ...recipe.sampling });
  recipeName.set(recipe.name ?? '');
}

export function Playground({ server, table }: { server: Info; table: Table | null }) {
  const here = useStore(place);
  const shared = here.params.get('recipe');
  useEffect(() => {
    document.title = 'Playground · drrik';
    const given = here.params.get('prompt');
    if (given !== null) prompt.set(given);
    if (!shared) return;
    try {
      take(parseRecipe(decodeFromAddress(shared)));
    } catch (error) {
      say(`The recipe in the address cannot be read: ${messageOf(error)}`);
    }
  }, [shared]);
  return (
    <div class="page playground">
      <header class="title"><h1>Playground</h1>
        <p class="muted"><bdi>{String(server.model?.name ?? 'the model')}</bdi>{server.sae?.hook ? <> · {String(server.sae.hook)}, layer {String(server.sae.layer)}</> : null}</p></header>
      <Reading table={table} server={server} />
      <Steering table={table} server={server} />
    </div>
  );
}

// ---- reading

const activations = new Store<Activations | null>(null);

function Reading({ table, server }: { table: Table | null; server: Info }) {
  const text = useStore(readText);
  const read = useStore(activations);
  const [token, setToken] = useState(-1);
  const [feature, setFeature] = useState(-1);
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState('');
  const running = useRef<AbortController | null>(null);
  const ask = async (features: number[]) => {
    running.current?.abort();
    const control = (running.current = new AbortController());
    setBusy(true);
    setTrouble('');
    try {
      const body = { text: readText.get(), top_k: 20, ...(features.length ? { features } : {}) };
      return await request<Activations>('POST', 'api/v1/activations', body, control.signal);
    } catch (error) {
      if (!control.signal.aborted) setTrouble(messageOf(error));
      return null;
    } finally {
      if (running.current === control) setBusy(false);
    }
  };
  const analyse = async () => {
    if (!readText.get()) return;
    const answer = await ask([]);
    if (!answer) return;
    activations.set({ ...answer, values: answer.values ?? {} });
    setToken(-1);
    setFeature(-1);
    if (answer.features.length) choose(answer.features[0].feature);
  };
  const choose = async (wanted: number) => {
    setFeature(wanted);
    const now = activations.get();
    if (!now || now.values[wanted]) return;
    const answer = await ask([wanted]);
    const still = activations.get();
    if (answer?.values?.[wanted] && still?.tokens === now.tokens) {
      activations.set({ ...still, values: { ...still.values, [wanted]: answer.values[wanted] } });
    }
  };
  const values = read ? read.values[feature] ?? read.per_token.map((top) => top.find(([f]) => f === feature)?.[1]) : [];
  const rows: [number, number][] = !read ? [] : token >= 0 ? read.per_token[token] ?? [] : read.features.slice(0, 40).map((each) => [each.feature, each.max]);
  const most = Math.max(1e-9, ...rows.map(([, v]) => v));
  const scale = Math.max(1e-9, ...values.map((v) => v ?? 0));
  const events = read ? tokenEvents(read.tokens, values, 0) : {};
  return (
    <section class="figure reading" aria-label="Read a text">
      <header><h2>What fires on a text</h2></header>
      <form onSubmit={(event) => { event.preventDefault(); analyse(); }}>
        <textarea id="read-text" aria-label="Text to read" rows={3} placeholder="Type or paste a text" value={text}
          onInput={(event) => readText.set(event.currentTarget.value)}
          onKeyDown={(event) => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) analyse(); }} />
        <div class="actions"><button type="submit" class="primary" disabled={!text || busy}>{busy ? 'Reading…' : 'Read'}</button>
          <span class="hint">Ctrl + Enter</span>{trouble && <span class="error" role="alert">{trouble}</span>}</div>
      </form>
      {read && (
        <div class="reading-body">
          <div>
            <p class="hint">{feature >= 0 ? <>Shaded by <a href={table ? address('feature', feature) : undefined}>feature {feature}</a>. </> : null}Click a token for its features.</p>
            <div class="example block big" {...events}>
              <Tokens tokens={read.tokens} values={values} scale={scale} breaks selected={token} onPick={(i) => setToken(i === token ? -1 : i)} />
            </div>
          </div>
          <div>
            <h3>{token >= 0 ? <>On <bdi class="chip">{plain(read.tokens[token])}</bdi></> : 'Over the whole text'}
              {token >= 0 && <button type="button" class="link" onClick={() => setToken(-1)}>whole text</button>}</h3>
            {rows.length === 0 && <p class="muted">No feature fires here.</p>}
            <ol class="near pick">{rows.map(([f, value]) => (
              <li class={f === feature ? 'on' : ''}>
                <button type="button" aria-pressed={f === feature} onClick={() => choose(f)}><span class="id">{f}</span><FeatureName feature={f} table={table} />
                  <span class="num">{fixed(value)}</span><Bar value={value} scale={most} /></button>
                <button type="button" class="ghost square" aria-label={`Steer with feature ${f}`} title="Steer with it" onClick={() => {
                  withFeature(f, table && table.columns.max[f] > 0 ? table.columns.max[f] : read.features.find((each) => each.feature === f)?.max);
                  say(`Feature ${f} is in the recipe`);
                }}>+</button>
              </li>))}
            </ol>
          </div>
        </div>
      )}
      {!read && server.limits?.max_prompt_tokens && <p class="hint">Up to {count(server.limits.max_prompt_tokens)} tokens.</p>}
    </section>
  );
}

// ---- steering

interface Column {
  key: string;
  title: string;
  text: string;
  state: 'waiting' | 'writing' | 'done' | 'stopped';
  finish?: string;
  tokens?: number;
}

const columns = new Store<Column[]>([]);
const written = new Store<string>('');

function titleOf(key: string): string {
  if (key === 'baseline') return 'Baseline';
  const scale = /^scale_(.+)$/.exec(key);
  return scale ? (Number(scale[1]) === 1 ? 'Steered' : `Steered × ${Number(scale[1])}`) : key;
}

function Steering({ table, server }: { table: Table | null; server: Info }) {
  const list = useStore(edits);
  const how = useStore(sampling);
  const start = useStore(prompt);
  const shown = useStore(columns);
  const name = useStore(recipeName);
  const last = useStore(written);
  const [baseline, setBaseline] = useState(true);
  const [scales, setScales] = useState('1');
  const [live, setLive] = useState(false);
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState('');
  const running = useRef<AbortController | null>(null);
  const factors = [...new Set(scales.split(/[\s,;]+/).filter(Boolean).map(Number))];
  const factorsWrong = factors.length === 0 || factors.some((factor) => !Number.isFinite(factor)) || factors.length > 8;

  const generate = async () => {
    running.current?.abort();
    if (factorsWrong || prompt.get() === '') return;
    const control = (running.current = new AbortController());
    setBusy(true);
    setTrouble('');
    const steered = edits.get().length > 0;
    const keys = [...(baseline || !steered ? ['baseline'] : []), ...(steered ? factors.map((factor) => `scale_${factor}`) : [])];
    let now: Column[] = keys.map((key) => ({ key, title: titleOf(key), text: '', state: 'waiting' }));
    columns.set(now);
    written.set(prompt.get());
    // The server writes 1 as "1.0": streams are told apart by their value.
    const keyOf = (key: string) => (!steered ? 'baseline' : key).replace(/^scale_(.+)$/, (_, text) => `scale_${Number(text)}`);
    let painted = 0;
    const paint = () => {
      if (painted) return;
      painted = requestAnimationFrame(() => {
        painted = 0;
        if (running.current === control) columns.set(now);
      });
    };
    try {
      await stream('api/v1/steer', { prompt: prompt.get(), recipe: recipeNow(server), baseline: baseline && steered, scales: steered ? factors : [1] }, control.signal, (data) => {
        if (data === '[DONE]') return;
        const event = JSON.parse(data);
        if (event.error) throw new Error(event.error.message);
        const key = keyOf(event.stream);
        if (!now.some((column) => column.key === key)) now = [...now, { key, title: titleOf(key), text: '', state: 'writing' }];
        now = now.map((column) => (column.key !== key ? column : {
          ...column, text: column.text + (event.text ?? ''), state: event.done ? 'done' : 'writing', finish: event.finish_reason, tokens: event.tokens ?? column.tokens,
        }));
        paint();
      });
    } catch (error) {
      if (!control.signal.aborted) setTrouble(messageOf(error));
    } finally {
      if (running.current === control) {
        columns.set(now.map((column) => (column.state === 'done' ? column : { ...column, state: 'stopped' as const })));
        setBusy(false);
      }
    }
  };
  const wanted = JSON.stringify([list, how, start, scales, baseline]);
  const tried = useRef(wanted);
  useEffect(() => {
    if (tried.current === wanted) return;
    tried.current = wanted;
    memory.set('drrik-prompt', start);
    if (!live) return;
    const timer = setTimeout(generate, 450);
    return () => clearTimeout(timer);
  }, [wanted, live]);
  useEffect(() => () => running.current?.abort(), []);

  const base = shown.find((column) => column.key === 'baseline')?.text;
  const change = (at: number, part: Partial<Edit>) => edits.set(list.map((edit, i) => (i === at ? { ...edit, ...part } : edit)));
  const file = useRef<HTMLInputElement>(null);
  const load = async (from: File | undefined) => {
    if (!from) return;
    try {
      take(parseRecipe(await from.text()));
      say(`Recipe ${from.name} loaded`);
    } catch (error) {
      setTrouble(`${from.name}: ${messageOf(error)}`);
    }
  };
  const share = () => {
    const to = address('playground', null, { prompt: start, recipe: encodeForAddress(JSON.stringify(recipeNow(server))) });
    go(to, true);
    copy(location.href.replace(/#.*/, '') + to, 'Link to this recipe');
  };
  const top = server.limits?.max_new_tokens ?? 512;
  return (
    <section class="figure steering" aria-label="Steer the model">
      <header><h2>Steer</h2>
        <div class="tools">
          <input class="small" aria-label="Name of the recipe" placeholder="Recipe name" value={name} onInput={(event) => recipeName.set(event.currentTarget.value)} />
          <button type="button" class="ghost" disabled={!list.length} onClick={() => download(`${(name || 'recipe').replace(/[^\w.-]+/g, '-')}.json`, `${JSON.stringify(recipeNow(server), null, 2)}\n`)}>Save</button>
          <button type="button" class="ghost" onClick={() => file.current!.click()}>Load</button>
          <button type="button" class="ghost" disabled={!list.length} onClick={share}>Share</button>
          <input ref={file} type="file" accept=".json,application/json" hidden aria-label="Recipe file" onChange={(event) => { load(event.currentTarget.files?.[0]); event.currentTarget.value = ''; }} />
        </div></header>
      <div class="steering-body" onDragOver={(event) => event.preventDefault()} onDrop={(event) => { event.preventDefault(); load(event.dataTransfer?.files[0]); }}>
        <div class="controls">
          <Picker table={table} onPick={(feature) => withFeature(feature, table?.columns.max[feature])} />
          {list.length === 0 && <Empty title="No feature is steered yet"><p>Find one above by number, label or token, or press + beside one that fires.</p></Empty>}
          {list.map((edit, at) => (
            <EditRow key={edit.feature} edit={edit} table={table} onChange={(part) => change(at, part)} onRemove={() => edits.set(list.filter((_, i) => i !== at))} />
          ))}
          <details>
            <summary>Sampling</summary>
            <div class="sampling">
              {([['max_new_tokens', 'New tokens', 1, top, 1], ['temperature', 'Temperature', 0, 2, 0.05], ['top_p', 'Top p', 0, 1, 0.01], ['top_k', 'Top k (0: off)', 0, 1000, 1],
                ['repetition_penalty', 'Repetition penalty', 0.1, 3, 0.05], ['seed', 'Seed', 0, 2 ** 31, 1]] as const).map(([key, text, low, high, step]) => (
                <label>{text}<input type="number" min={low} max={high} step={step} value={how[key]} onChange={(event) => {
                  const value = Number(event.currentTarget.value);
                  if (event.currentTarget.value !== '' && Number.isFinite(value)) sampling.set({ ...how, [key]: value });
                }} /></label>))}
            </div>
          </details>
        </div>
        <div class="writing">
          <form onSubmit={(event) => { event.preventDefault(); generate(); }}>
            <textarea id="prompt" aria-label="Prompt" rows={2} placeholder="Prompt" value={start} onInput={(event) => prompt.set(event.currentTarget.value)}
              onKeyDown={(event) => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) generate(); }} />
            <div class="actions">
              {busy ? <button type="button" class="stop" onClick={() => running.current?.abort()}>Stop</button>
                : <button type="submit" class="primary" disabled={start === '' || factorsWrong}>Generate</button>}
              <label class="check"><input type="checkbox" checked={baseline} onChange={(event) => setBaseline(event.currentTarget.checked)} />Baseline</label>
              <label class="check" title="Write anew whenever a slider moves"><input type="checkbox" checked={live} onChange={(event) => setLive(event.currentTarget.checked)} />Live</label>
              <label class="inline">Strengths × <input class="tiny" aria-label="Factors of the strengths to compare" aria-invalid={factorsWrong} value={scales} onInput={(event) => setScales(event.currentTarget.value)} title="Several, as 0.5, 1, 2, are written side by side" /></label>
            </div>
            {trouble && <p class="error" role="alert">{trouble}</p>}
          </form>
          {shown.length > 0 && (
            <div class={`columns of${Math.min(4, shown.length)}`}>
              {shown.map((column) => <Written key={column.key} column={column} prompt={last} base={column.key === 'baseline' ? undefined : base} />)}
            </div>
          )}
        </div>
      </div>
    </section>
  );
}

/** What is still as the baseline has it stands back; the rest is what steering did. */
function Written({ column, prompt: start, base }: { column: Column; prompt: string; base?: string }) {
  let same = 0;
  if (base !== undefined) while (same < base.length && same < column.text.length && base[same] === column.text[same]) ++same;
  const foot = { waiting: 'waiting', writing: 'writing…', stopped: 'stopped', done: column.finish === 'stop' ? 'ended' : 'at its length' }[column.state];
  return (
    <article class="written" aria-label={column.title}>
      <header><h3>{column.title}</h3><button type="button" class="link" onClick={() => copy(start + column.text, 'Text')}>Copy</button></header>
      <p dir="auto" aria-live={column.state === 'done' ? 'polite' : 'off'}><span class="prompted">{start}</span>{same > 0 && <span class="same">{column.text.slice(0, same)}</span>}
        {base !== undefined ? <mark class="changed">{column.text.slice(same)}</mark> : column.text.slice(same)}{column.state === 'writing' && <i class="caret" aria-hidden="true" />}</p>
      <footer class="muted">{column.tokens !== undefined ? `${count(column.tokens)} tokens, ` : ''}{foot}</footer>
    </article>
  );
}

function EditRow({ edit, table, onChange, onRemove }: { edit: Edit; table: Table | null; onChange: (part: Partial<Edit>) => void; onRemove: () => void }) {
  const { low, high, step } = scaleOf(edit);
  const chosen = Array.isArray(edit.positions);
  const name = `feature ${edit.feature}`;
  const known = edit.max_activation !== undefined && edit.max_activation > 0;
  return (
    <div class="edit" role="group" aria-label={`Edit of ${name}`}>
      <div class="edit-head"><a class="id" href={table ? address('feature', edit.feature) : undefined}>{edit.feature}</a><FeatureName feature={edit.feature} table={table} />
        <button type="button" class="ghost square" aria-label={`Remove ${name}`} onClick={onRemove}>×</button></div>
      <Segments<Mode> name={`Way of ${name}`} value={edit.mode} options={[['add', 'Add'], ['clamp', 'Clamp'], ['scale', 'Scale'], ['ablate', 'Ablate']]}
        onChange={(mode) => onChange({ mode, strength: mode === 'ablate' ? 0 : mode === 'scale' ? 2 : edit.mode === 'scale' || edit.mode === 'ablate' ? 1 : edit.strength })} />
      {edit.mode !== 'ablate' && (
        <div class="strength">
          <input type="range" aria-label={`Strength of ${name}`} min={low} max={high} step={step} value={edit.strength} onInput={(event) => onChange({ strength: Number(event.currentTarget.value) })}
            onDblClick={() => onChange({ strength: edit.mode === 'scale' ? 1 : 0 })} />
          <input type="number" class="tiny" aria-label={`Strength of ${name} as a number`} step="any" value={Number(edit.strength.toFixed(3))}
            onChange={(event) => event.currentTarget.value !== '' && onChange({ strength: Number(event.currentTarget.value) })} />
          {edit.mode !== 'scale' && (
            <select aria-label={`Unit of ${name}`} value={edit.unit} onChange={(event) => {
              const unit = event.currentTarget.value as Unit;
              const factor = edit.max_activation ?? 1;
              onChange({ unit, strength: unit === edit.unit ? edit.strength : unit === 'max' ? edit.strength / factor : edit.strength * factor });
            }}>
              <option value="max" selected={edit.unit === 'max'} disabled={!known}>× max{known ? ` ${number(edit.max_activation)}` : ''}</option>
              <option value="decoder" selected={edit.unit === 'decoder'}>activation</option>
            </select>)}
        </div>
      )}
      <div class="where-row"><label>Where <select value={chosen ? 'list' : (edit.positions as string)} onChange={(event) => {
        const to = event.currentTarget.value;
        onChange({ positions: to === 'list' ? [0] : (to as Positions) });
      }}>{[['all', 'everywhere'], ['prompt', 'in the prompt'], ['generated', 'in new text'], ['list', 'at positions']].map(([key, text]) => (
        <option value={key} selected={key === (chosen ? 'list' : edit.positions)}>{text}</option>))}</select></label>
        {chosen && <input class="small" aria-label={`Positions of ${name}`} value={(edit.positions as number[]).join(', ')} onChange={(event) => {
          const list = event.currentTarget.value.split(/[\s,;]+/).filter(Boolean).map(Number);
          if (list.length && list.every((p) => Number.isInteger(p) && p >= 0)) onChange({ positions: list });
          else event.currentTarget.value = (edit.positions as number[]).join(', ');
        }} />}</div>
    </div>
  );
}

function Picker({ table, onPick }: { table: Table | null; onPick: (feature: number) => void }) {
  const [text, setText] = useState('');
  const names = useStore(labels);
  const found = table && text.trim() ? Array.from(select(table, names, { query: text, sort: 'max', descending: true, state: 'alive' }).subarray(0, 6)) : [];
  const direct = !table && /^\d{1,9}$/.test(text.trim()) ? Number(text) : null;
  const pick = (feature: number) => {
    onPick(feature);
    setText('');
    hideTip();
  };
  return (
    <div class="picker">
      <input type="search" aria-label="Find a feature to steer with" placeholder={table ? 'Add a feature: number, label or token' : 'Add a feature: number'} value={text} autocomplete="off" spellcheck={false}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === 'Enter') {
            event.preventDefault();
            if (found.length) pick(found[0]);
            else if (direct !== null) pick(direct);
          }
        }} />
      {text.trim() && (
        <ul class="menu panel" aria-label="Features found">
          {found.map((f) => <li><button type="button" onClick={() => pick(f)}><span class="id">{f}</span><FeatureName feature={f} table={table} /></button></li>)}
          {direct !== null && <li><button type="button" onClick={() => pick(direct)}>Feature {direct}</button></li>}
          {!found.length && direct === null && <li class="muted">No feature that fires is named so</li>}
        </ul>
      )}
    </div>
  );
}
