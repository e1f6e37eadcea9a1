// The server's API (docs/api). All addresses are relative, so the page works behind any prefix.

export interface Info {
  drrik?: string;
  model?: Record<string, unknown>;
  sae?: Record<string, unknown>;
  dashboard?: boolean;
  runs?: boolean;
  limits?: { max_prompt_tokens?: number; max_new_tokens?: number; max_edits?: number };
}

export interface Activations {
  tokens: string[];
  ids: number[];
  per_token: [number, number][][];
  features: { feature: number; mean: number; max: number; peak: number }[];
  values: Record<string, number[]>;
}

export interface Run {
  id: string;
  path: string;
  state: 'running' | 'finished' | 'stalled';
  step: number;
  updated: string | number;
}

async function failure(response: Response): Promise<Error> {
  let message = `${response.status} ${response.statusText}`.trim();
  try {
    message = (await response.json()).error.message ?? message;
  } catch {
    // not JSON: the status has to do
  }
  return new Error(message);
}

export async function request<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const response = await fetch(path, {
    method,
    signal,
    cache: 'no-store',
    headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!response.ok) throw await failure(response);
  return response.status === 204 ? (undefined as T) : ((await response.json()) as T);
}

/** Null where no drrik server answers: from disk, or from a server of plain files. */
export async function findServer(): Promise<Info | null> {
  if (!location.protocol.startsWith('http')) return null;
  try {
    const info = await request<Info>('GET', 'api/v1/info');
    // A token in the address has done its work: the server has set its cookie.
    if (new URLSearchParams(location.search).has('token')) {
      history.replaceState(null, '', location.pathname + location.hash);
    }
    return info;
  } catch {
    return null;
  }
}

/** Posts and reads the answer's server-sent events; `each` gets the data of every one. */
export async function stream(
  path: string, body: unknown, signal: AbortSignal, each: (data: string) => void,
): Promise<void> {
  const response = await fetch(path, {
    method: 'POST', signal, cache: 'no-store',
    headers: { 'Content-Type': 'application/json', Accept: 'text/event-stream' },
    body: JSON.stringify(body),
  });
  if (!response.ok || !response.body) throw await failure(response);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    rest = rest.replaceAll('\r\n', '\n');
    let end;
    while ((end = rest.indexOf('\n\n')) >= 0) {
      const event = rest.slice(0, end);
      rest = rest.slice(end + 2);
      const data = event.split('\n').filter((line) => line.startsWith('data:'))
        .map((line) => line.slice(5).replace(/^ /, '')).join('\n');
      if (data) each(data);
    }
    if (done) return;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
