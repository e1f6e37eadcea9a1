// Training as it goes: the metrics of a run, asked for again while it runs.
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { Run } from '../data/api';
import { messageOf, request } from '../data/api';
import { count, date, number } from '../data/format';
import { address, place } from '../data/state';
import { useStore } from '../data/store';
import { Empty, Segments } from '../ui/common';
import { FigureFrame, Plot, svgOf } from '../ui/figure';
import type { Figure } from '../ui/figure';

const kEvery = 2000;
type Row = Record<string, unknown>;

export function Runs() {
  const here = useStore(place);
  const [runs, setRuns] = useState<Run[] | null>(null);
  const [trouble, setTrouble] = useState('');
  useEffect(() => {
    document.title = 'Runs · drrik';
    let stopped = false;
    let timer = 0;
    const ask = async () => {
      try {
        const answer = await request<Run[]>('GET', 'api/v1/runs');
        if (!stopped) {
          setRuns(answer);
          setTrouble('');
        }
      } catch (error) {
        if (!stopped) setTrouble(messageOf(error));
      }
      if (!stopped) timer = window.setTimeout(ask, kEvery);
    };
    ask();
    return () => { stopped = true; clearTimeout(timer); };
  }, []);
  const open = runs?.find((run) => run.id === here.item) ?? (here.item ? undefined : runs?.[0]);
  return (
    <div class="page runs">
      <header class="title"><h1>Training runs</h1>{trouble && <p class="error" role="alert">{trouble}</p>}</header>
      {runs && runs.length === 0 && <Empty title="No run is here yet"><p>Runs appear when <code>drrik train</code> writes below the folder given with <code>--runs</code>.</p></Empty>}
      {runs && runs.length > 0 && (
        <div class="runs-body">
          <nav aria-label="Runs"><ul class="run-list">{runs.map((run) => (
            <li><a href={address('runs', run.id)} aria-current={run.id === open?.id ? 'page' : undefined}>
              <span class="run-name"><bdi>{run.path || run.id}</bdi></span>
              <span class={`state ${run.state}`}>{run.state}</span><span class="muted">step {count(run.step)}{run.updated ? ` · ${date(run.updated)}` : ''}</span></a></li>))}
          </ul></nav>
          {open ? <Metrics key={open.id} run={open} /> : <Empty title="There is no such run" />}
        </div>
      )}
    </div>
  );
}

function Metrics({ run }: { run: Run }) {
  const [rows, setRows] = useState<Row[]>([]);
  const [trouble, setTrouble] = useState('');
  const [axis, setAxis] = useState<'linear' | 'log'>('linear');
  const running = run.state === 'running';
  useEffect(() => {
    let stopped = false;
    let timer = 0;
    let next = 0;
    const ask = async () => {
      let more = false;
      try {
        const answer = await request<{ rows: Row[]; next: number }>('GET', `api/v1/runs/${encodeURIComponent(run.id)}/metrics?after=${next}`);
        if (stopped) return;
        // From the beginning again when the file was begun anew.
        const again = answer.next < next;
        const from = next;
        next = again ? 0 : answer.next;
        more = !again && answer.next > from && answer.rows.length > 0;
        if (again) setRows([]);
        else if (answer.rows.length) setRows((old) => (from === 0 ? answer.rows : [...old, ...answer.rows]));
        setTrouble('');
      } catch (error) {
        if (!stopped) setTrouble(messageOf(error));
      }
      if (!stopped) timer = window.setTimeout(ask, more ? 50 : kEvery);
    };
    ask();
    return () => { stopped = true; clearTimeout(timer); };
  }, [run.id, running]);
  const figures = useMemo(() => {
    const names = new Map<string, { x: number[]; y: number[] }>();
    rows.forEach((row, i) => {
      const step = typeof row._step === 'number' ? row._step : i;
      for (const [name, value] of Object.entries(row)) {
        if (name.startsWith('_') || typeof value !== 'number' || !Number.isFinite(value)) continue;
        let series = names.get(name);
        if (!series) names.set(name, (series = { x: [], y: [] }));
        // A resumed run goes back some steps: the later word counts, and x must rise.
        while (series.x.length && series.x[series.x.length - 1] >= step) {
          series.x.pop();
          series.y.pop();
        }
        series.x.push(step);
        series.y.push(value);
      }
    });
    return [...names].sort((a, b) => a[0].localeCompare(b[0])).map(([name, { x, y }]): [string, Figure] => {
      const logY = axis === 'log' && y.some((v) => v > 0);
      return [name, { kind: 'lines', x, ys: [logY ? y.map((v) => (v > 0 ? v : null)) : y], names: [name.split('/').pop()!], xLabel: 'step', yLabel: '', logY }];
    });
  }, [rows, axis]);
  return (
    <div class="metrics">
      <div class="examples-tools"><span class="muted">{count(rows.length)} rows</span>{trouble && <span class="error" role="alert">{trouble}</span>}
        <Segments name="Scale of the metrics" value={axis} onChange={setAxis} options={[['linear', 'Linear'], ['log', 'Log']]} /></div>
      {figures.length === 0 && !trouble && <Empty title="Nothing was logged yet" />}
      <div class="grid">{figures.map(([name, figure]) => (
        <FigureFrame key={name} title={name} svg={() => svgOf(figure, name)} tools={<span class="num now">{number(figure.ys[0][figure.ys[0].length - 1], 4)}</span>}>
          <Plot figure={figure} height={160} summary={`${name} over the steps`} />
        </FigureFrame>))}
      </div>
    </div>
  );
}
