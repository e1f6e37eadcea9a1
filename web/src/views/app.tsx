import { useEffect, useRef, useState } from 'preact/hooks';
import { address, go, labels, notice, phase, place, setTheme, theme } from '../data/state';
import type { Loaded, Theme } from '../data/state';
import { useStore } from '../data/store';
import { Empty, Tooltip } from '../ui/common';
import { FeatureView } from './feature';
import { cursor, FeatureList, listed } from './list';
import { Overview } from './overview';
import { Playground } from './playground';
import { Runs } from './runs';

const kKeys: [string, string][] = [
  ['/', 'Search'], ['j, k', 'Next and previous feature'], ['Enter', 'Open the feature'], ['g', 'Go to a feature by number'],
  ['l', 'Label the feature'], ['← →', 'Token by token, in an example in focus'], ['Esc', 'Close, or back to the list'], ['t', 'Dark or light'], ['?', 'These keys'],
];

function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: unknown }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = element.current!;
    const before = document.activeElement as HTMLElement | null;
    dialog.showModal();
    return () => {
      dialog.close();
      before?.focus?.();
    };
  }, []);
  return (
    <dialog ref={element} aria-label={title} onCancel={(event) => { event.preventDefault(); onClose(); }} onClick={(event) => event.target === element.current && onClose()}>
      <header><h2>{title}</h2><button type="button" class="ghost square" aria-label="Close" onClick={onClose}>×</button></header>
      {children as never}
    </dialog>
  );
}

export function App() {
  const now = useStore(phase);
  return (
    <>
      {now.kind === 'ready' ? <Ready {...now} /> : (
        <main class="start">
          {now.kind === 'failed'
            ? <div role="alert"><Empty title="The features cannot be shown"><p>{now.why}</p></Empty></div>
            : <p class="muted" role="status">Reading…</p>}
        </main>
      )}
      <Tooltip />
      <Notice />
    </>
  );
}

function Notice() {
  const text = useStore(notice);
  return <div role="status" class={text ? 'notice shown' : 'notice'}>{text}</div>;
}

function Ready({ server, index, table }: Loaded) {
  const here = useStore(place);
  const chosen = useStore(theme);
  const [dialog, setDialog] = useState<'keys' | 'go' | null>(null);
  const view = here.view === 'overview' && !index ? 'playground' : here.view;
  useEffect(() => {
    performance.mark('drrik-ready');
  }, []);
  useEffect(() => {
    if (view === 'overview' || view === 'features') document.title = index?.title ? `${index.title} · drrik` : 'drrik';
    if (view !== 'features' && view !== 'feature') document.scrollingElement?.scrollTo(0, 0);
  }, [view]);

  const handle = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.target as HTMLElement;
    const typing = target.matches('input, textarea, select, [contenteditable]');
    if (event.key === 'Escape') {
      if (typing) return target.blur();
      if (view === 'feature') go(address('features', null, place.get().params));
      return;
    }
    if (typing || dialog) return;
    const inFeatures = view === 'features' || view === 'feature';
    const order = listed.get();
    if (event.key === '?') setDialog('keys');
    else if (event.key === 't') nextTheme();
    else if (event.key === 'g' && table) setDialog('go');
    else if (event.key === '/' && table) {
      if (!inFeatures) go(address('features'));
      requestAnimationFrame(() => {
        const field = document.getElementById('search') as HTMLInputElement | null;
        field?.focus();
        field?.select();
      });
    } else if (event.key === 'l' && view === 'feature') document.getElementById('label')?.focus();
    else if ((event.key === 'j' || event.key === 'k') && inFeatures && order.length) {
      const at = Math.max(0, Math.min(order.length - 1, cursor.get() + (event.key === 'j' ? 1 : -1)));
      cursor.set(at);
      if (view === 'feature') go(address('feature', order[at], place.get().params), true);
    } else if (event.key === 'Enter' && view === 'features' && cursor.get() >= 0 && !target.matches('button, a, [tabindex="0"]')) {
      go(address('feature', order[cursor.get()], place.get().params));
    } else return;
    event.preventDefault();
  };
  const handler = useRef(handle);
  handler.current = handle;
  useEffect(() => {
    const listen = (event: KeyboardEvent) => handler.current(event);
    document.addEventListener('keydown', listen);
    return () => document.removeEventListener('keydown', listen);
  }, []);
  const nextTheme = () => {
    const isDark = document.documentElement.dataset.theme === 'dark';
    setTheme(isDark ? 'light' : 'dark');
  };
  const link = (to: string, text: string, ...views: string[]) => (
    <a href={address(to)} aria-current={views.includes(view) ? 'page' : undefined}>{text}</a>
  );
  let content;
  if ((view === 'features' || view === 'feature') && index && table) {
    content = (
      <main class={`split ${view}`}>
        {view === 'features' && <h1 class="offscreen">Features</h1>}
        <FeatureList index={index} table={table} compact={view === 'feature'} />
        {view === 'feature' && <FeatureView index={index} table={table} live={server !== null} />}
      </main>
    );
  } else if (view === 'overview' && index && table) {
    content = <main><Overview index={index} table={table} /></main>;
  } else if (view === 'playground' && server) {
    content = <main><Playground server={server} table={table} /></main>;
  } else if (view === 'runs' && server?.runs) {
    content = <main><Runs /></main>;
  } else {
    content = (
      <main class="start"><h1 class="offscreen">Not here</h1><Empty title={view === 'playground' || view === 'runs' ? 'The playground needs a running model' : 'There is nothing here'}>
        {view === 'playground' || view === 'runs' ? <p>Start <code>drrik serve</code> with the model and this dashboard, and open the address it prints.</p>
          : <p><a href="#/">To the overview</a></p>}</Empty></main>
    );
  }
  return (
    <>
      <header class="topbar">
        <a class="brand" href="#/">drrik</a>
        <nav aria-label="Views">
          {index && link('overview', 'Overview', 'overview')}
          {index && link('features', 'Features', 'features', 'feature')}
          {server && link('playground', 'Playground', 'playground')}
          {server?.runs && link('runs', 'Runs', 'runs')}
        </nav>
        <span class="spring" />
        <span class="context muted"><bdi>{String((index?.model ?? server?.model)?.name ?? '')}</bdi></span>
        <button type="button" class="ghost square" aria-label="Dark or light" title={`Colours: ${chosen satisfies Theme}`} onClick={nextTheme}>◐</button>
        <button type="button" class="ghost square" aria-label="Keys" onClick={() => setDialog('keys')}>?</button>
      </header>
      {content}
      {dialog === 'keys' && (
        <Dialog title="Keys" onClose={() => setDialog(null)}>
          <dl class="keys">{kKeys.map(([key, what]) => <div><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}</dl>
          <p class="hint">Search looks in labels and tokens; <code>fires:cat</code>, <code>promotes:dog</code> and <code>label:"proper names"</code> look in one place.
            {index?.drrik ? ` Made with drrik ${index.drrik}.` : ''} The page contains Preact and uPlot (MIT licence; texts at the end of its source).</p>
        </Dialog>
      )}
      {dialog === 'go' && table && (
        <Dialog title="Go to a feature" onClose={() => setDialog(null)}>
          <form onSubmit={(event) => {
            event.preventDefault();
            const field = event.currentTarget.elements.namedItem('feature') as HTMLInputElement;
            setDialog(null);
            if (field.value !== '') go(address('feature', Number(field.value), view === 'features' || view === 'feature' ? place.get().params : undefined));
          }}>
            <input name="feature" type="number" min={0} max={table.count - 1} step={1} aria-label="Number of the feature" placeholder={`0 to ${table.count - 1}`} />
            <button type="submit" class="primary">Go</button>
          </form>
        </Dialog>
      )}
      {labels.trouble.get() && view !== 'feature' && <p class="offscreen" role="alert">{labels.trouble.get()}</p>}
    </>
  );
}
