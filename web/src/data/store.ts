import { useEffect, useReducer } from 'preact/hooks';

/** A value that components follow. */
export class Store<T> {
  private followers = new Set<() => void>();
  constructor(private value: T) {}

  get(): T {
    return this.value;
  }

  set(value: T): void {
    this.value = value;
    for (const follower of [...this.followers]) follower();
  }

  follow(follower: () => void): () => void {
    this.followers.add(follower);
    return () => this.followers.delete(follower);
  }
}

export function useStore<T>(store: Store<T>): T {
  const [, again] = useReducer((n: number) => n + 1, 0);
  const seen = store.get();
  useEffect(() => {
    if (store.get() !== seen) again(0);
    return store.follow(() => again(0));
  }, [store]);
  return seen;
}

/** localStorage, which a browser may refuse to a page from disk; the page then forgets, no more. */
export const memory = {
  get(key: string): string | null {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  },
  set(key: string, value: string | null): boolean {
    try {
      if (value === null) localStorage.removeItem(key);
      else localStorage.setItem(key, value);
      return true;
    } catch {
      return false;
    }
  },
};
