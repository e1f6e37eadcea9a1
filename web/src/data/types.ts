// What `drrik dashboard` writes (docs/page.md).

export interface Series {
  name: string;
  x: number[];
  y: number[];
}

export interface Index {
  format: 'drrik-dashboard';
  version: number;
  title?: string;
  created?: string;
  drrik?: string;
  model?: Record<string, unknown>;
  sae?: Record<string, unknown>;
  dataset?: Record<string, unknown>;
  summary?: Record<string, number>;
  density_histogram?: { edges: number[]; counts: number[] };
  training?: { series: Series[] };
  map?: { method: string };
  coactivation?: string;
  chunk_size: number;
  columns: Record<string, string>;
  fires_on?: string[][];
  promotes?: string[][];
  labels?: Record<string, string>;
}

export interface Example {
  tokens: string[];
  values: number[];
  peak: number;
  sequence?: number;
  position?: number;
}

export interface Group {
  name: string;
  low: number;
  high: number;
  examples: Example[];
}

export interface FeatureRecord {
  feature: number;
  density: number;
  active: number;
  max: number;
  mean_active: number;
  decoder_norm: number;
  encoder_bias: number;
  histogram?: { width: number; counts: number[] };
  groups: Group[];
  promoted: [string, number, number][];
  suppressed: [string, number, number][];
  nearest: [number, number][];
  coactive: [number, number, number][];
  neurons: [number, number][];
}
