import { render } from 'preact';
import { App } from './views/app';
import 'uplot/dist/uPlot.min.css';
import './style.css';
import { load } from './data/state';

render(<App />, document.getElementById('app')!);
load();
