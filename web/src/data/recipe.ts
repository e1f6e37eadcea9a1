// Steering recipes: the JSON that `drrik steer --recipe` runs (docs/formats).

export type Mode = 'add' | 'clamp' | 'scale' | 'ablate';
export type Unit = 'decoder' | 'max';
export type Positions = 'all' | 'prompt' | 'generated' | number[];

export interface Edit {
  feature: number;
  mode: Mode;
  strength: number;
  unit: Unit;
  max_activation?: number;
  positions: Positions;
}

export interface Sampling {
  max_new_tokens?: number;
  temperature?: number;
  top_p?: number;
  top_k?: number;
  repetition_penalty?: number;
  seed?: number;
}

export interface Recipe {
  format: 'drrik-steering-recipe';
  version: 1;
  name?: string;
  description?: string;
  model?: string;
  sae?: string;
  hook?: string;
  layer?: number;
  edits: Edit[];
  sampling?: Sampling;
}

const kModes: Mode[] = ['add', 'clamp', 'scale', 'ablate'];

function numberIn(of: Record<string, unknown>, key: string, what: string): number {
  const value = of[key];
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    throw new Error(`${what}: "${key}" is ${JSON.stringify(value)}; a number is wanted`);
  }
  return value;
}

function editOf(value: unknown, at: number): Edit {
  const what = `edit ${at}`;
  if (typeof value !== 'object' || value === null) throw new Error(`${what} is not an object`);
  const of = value as Record<string, unknown>;
  const feature = numberIn(of, 'feature', what);
  if (!Number.isInteger(feature) || feature < 0) throw new Error(`${what}: no feature has the number ${feature}`);
  const mode = (of.mode ?? 'add') as Mode;
  if (!kModes.includes(mode)) throw new Error(`${what}: mode ${JSON.stringify(of.mode)} is none of ${kModes.join(', ')}`);
  const unit = (of.unit ?? 'decoder') as Unit;
  if (unit !== 'decoder' && unit !== 'max') throw new Error(`${what}: unit ${JSON.stringify(of.unit)} is neither decoder nor max`);
  const positions = (of.positions ?? 'all') as Positions;
  const known = positions === 'all' || positions === 'prompt' || positions === 'generated' ||
    (Array.isArray(positions) && positions.every((each) => Number.isInteger(each)));
  if (!known) throw new Error(`${what}: positions are neither all, prompt, generated nor a list of whole numbers`);
  const edit: Edit = {
    feature, mode, unit, positions,
    strength: mode === 'ablate' ? 0 : numberIn(of, 'strength', what),
  };
  if (of.max_activation !== undefined) edit.max_activation = numberIn(of, 'max_activation', what);
  return edit;
}

/** Throws an Error that says what is wrong. */
export function parseRecipe(text: string): Recipe {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('this is not JSON');
  }
  const of = value as Record<string, unknown>;
  if (typeof of !== 'object' || of === null || of.format !== 'drrik-steering-recipe') {
    throw new Error('this is not a steering recipe: its "format" is not "drrik-steering-recipe"');
  }
  if (of.version !== 1) throw new Error(`the recipe's version is ${JSON.stringify(of.version)}; this page reads version 1`);
  if (!Array.isArray(of.edits)) throw new Error('the recipe has no list "edits"');
  const recipe: Recipe = { format: 'drrik-steering-recipe', version: 1, edits: of.edits.map(editOf) };
  for (const key of ['name', 'description', 'model', 'sae', 'hook'] as const) {
    if (typeof of[key] === 'string') recipe[key] = of[key] as string;
  }
  if (typeof of.layer === 'number') recipe.layer = of.layer;
  if (of.sampling !== undefined) {
    const from = of.sampling as Record<string, unknown>;
    if (typeof from !== 'object' || from === null) throw new Error('the recipe\'s "sampling" is not an object');
    const sampling: Sampling = {};
    for (const key of ['max_new_tokens', 'temperature', 'top_p', 'top_k', 'repetition_penalty', 'seed'] as const) {
      if (from[key] !== undefined) sampling[key] = numberIn(from, key, 'sampling');
    }
    recipe.sampling = sampling;
  }
  return recipe;
}

// In an address: UTF-8, base64 with the two letters that need no escape.
export function encodeForAddress(text: string): string {
  const bytes = new TextEncoder().encode(text);
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

export function decodeFromAddress(text: string): string {
  const binary = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  return new TextDecoder().decode(Uint8Array.from(binary, (c) => c.charCodeAt(0)));
}
