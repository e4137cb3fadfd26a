// What the Grafana dashboard shows: rows of panels with their queries. scripts/monitoring/grafana-dashboard.ts makes Grafana's
// JSON of it. $in is the choice of instances, $rate Grafana's interval for rates; every name and label is held against a running
// server by test/deploy/prometheus.test.ts.

export interface Panel {
  title: string
  /** What it tells, and what is good. */
  description: string
  kind: 'timeseries' | 'stat'
  /** Grafana's unit id. */
  unit: 'short' | 's' | 'bytes' | 'Bps' | 'percentunit' | 'bool_on_off' | 'reqps'
  /** Of the 24 columns. */
  width: number
  queries: { expr: string; legend: string }[]
  stacked?: boolean
  /** A stat turns red from (or, with `below`, under) this value. */
  alarm?: { at: number; below?: boolean }
}

export interface Row {
  title: string
  panels: Panel[]
}

const p = 'tensorpress_'

/** Quantile of a histogram by label. */
const quantile = (q: number, name: string, by: string) =>
  `histogram_quantile(${q}, sum by (${by}, le) (rate(${p}${name}_bucket{$in}[$rate])))`

export const ROWS: readonly Row[] = [
  {
    title: 'Now',
    panels: [
      {
        title: 'Ready',
        description: '1: jobs can be taken and done.',
        kind: 'stat',
        unit: 'bool_on_off',
        width: 3,
        queries: [{ expr: `min(${p}ready{$in})`, legend: '' }],
        alarm: { at: 1, below: true },
      },
      {
        title: 'Reference device in use',
        description: '1: no GPU adapter; kernels run as scalar code.',
        kind: 'stat',
        unit: 'bool_on_off',
        width: 4,
        queries: [{ expr: `max(${p}reference_device{$in})`, legend: '' }],
        alarm: { at: 1 },
      },
      {
        title: 'Device',
        description: 'Adapter and driver that kernels run on.',
        kind: 'stat',
        unit: 'short',
        width: 8,
        queries: [{ expr: `${p}device_info{$in}`, legend: '{{adapter}}, {{driver}}' }],
      },
      {
        title: 'Jobs waiting',
        description: 'Length of the queue.',
        kind: 'stat',
        unit: 'short',
        width: 3,
        queries: [{ expr: `sum(${p}queue_depth{$in})`, legend: '' }],
      },
      {
        title: 'Longest wait',
        description: 'Since the acceptance of the job at the head of the queue.',
        kind: 'stat',
        unit: 's',
        width: 3,
        queries: [{ expr: `max(${p}queue_oldest_seconds{$in})`, legend: '' }],
        alarm: { at: 1800 },
      },
      {
        title: 'Failed in the last hour',
        description: 'Jobs that ended in failure, requirements that were not met included.',
        kind: 'stat',
        unit: 'short',
        width: 3,
        queries: [{ expr: `sum(increase(${p}job_failures_total{$in}[1h]))`, legend: '' }],
      },
    ],
  },
  {
    title: 'Work',
    panels: [
      {
        title: 'Compressed per second of wall time',
        description: 'Bytes of models per second of the compress stage: reading, kernels and writing together.',
        kind: 'timeseries',
        unit: 'Bps',
        width: 8,
        queries: [
          {
            expr: `sum by (instance) (rate(${p}compressed_bytes_total{$in}[$rate])) / sum by (instance) (rate(${p}job_stage_duration_seconds_sum{$in,stage="compress"}[$rate]))`,
            legend: '{{instance}}',
          },
        ],
      },
      {
        title: 'Compressed per second of GPU time',
        description: 'Bytes of models per second that kernels ran, by method.',
        kind: 'timeseries',
        unit: 'Bps',
        width: 8,
        queries: [
          {
            expr: `sum by (method) (rate(${p}compressed_bytes_total{$in}[$rate])) / sum by (method) (rate(${p}gpu_seconds_total{$in}[$rate]))`,
            legend: '{{method}}',
          },
        ],
      },
      {
        title: 'Jobs by outcome',
        description: 'Jobs that ended in each interval.',
        kind: 'timeseries',
        unit: 'short',
        width: 8,
        stacked: true,
        queries: [{ expr: `sum by (outcome) (increase(${p}jobs_total{$in}[$rate]))`, legend: '{{outcome}}' }],
      },
      {
        title: 'Failures by code',
        description: 'docs/errors.md has every code.',
        kind: 'timeseries',
        unit: 'short',
        width: 8,
        stacked: true,
        queries: [{ expr: `sum by (code) (increase(${p}job_failures_total{$in}[$rate])) > 0`, legend: '{{code}}' }],
      },
      {
        title: 'Queue',
        description: 'Jobs that wait and jobs in work.',
        kind: 'timeseries',
        unit: 'short',
        width: 8,
        queries: [
          { expr: `sum(${p}queue_depth{$in})`, legend: 'waiting' },
          { expr: `sum(${p}jobs_running{$in})`, legend: 'in work' },
        ],
      },
      {
        title: 'Wait',
        description: 'The job at the head of the queue now, and how long jobs had waited when they were started.',
        kind: 'timeseries',
        unit: 's',
        width: 8,
        queries: [
          { expr: `max(${p}queue_oldest_seconds{$in})`, legend: 'head of the queue' },
          { expr: quantile(0.5, 'queue_wait_seconds', 'job'), legend: 'median' },
          { expr: quantile(0.95, 'queue_wait_seconds', 'job'), legend: '95 %' },
        ],
      },
      {
        title: 'Stage durations, 95 %',
        description:
          'compress and validate are whole stages; open, calibrate, encode, finish and measure are parts of compress.',
        kind: 'timeseries',
        unit: 's',
        width: 8,
        queries: [{ expr: quantile(0.95, 'job_stage_duration_seconds', 'stage'), legend: '{{stage}}' }],
      },
      {
        title: 'Job durations',
        description: 'Last attempt, from start to end.',
        kind: 'timeseries',
        unit: 's',
        width: 8,
        queries: [
          { expr: quantile(0.5, 'job_duration_seconds', 'job'), legend: 'median' },
          { expr: quantile(0.95, 'job_duration_seconds', 'job'), legend: '95 %' },
        ],
      },
      {
        title: 'Answered from the store',
        description: 'Share of jobs whose artifact was there already.',
        kind: 'timeseries',
        unit: 'percentunit',
        width: 8,
        queries: [
          {
            expr: `sum(rate(${p}jobs_cached_total{$in}[$rate])) / sum(rate(${p}jobs_total{$in}[$rate]))`,
            legend: 'from the store',
          },
        ],
      },
    ],
  },
  {
    title: 'Results',
    panels: [
      {
        title: 'Size of artifacts',
        description: 'Raw bytes of the artifact over those of the model, median by method.',
        kind: 'timeseries',
        unit: 'percentunit',
        width: 8,
        queries: [{ expr: quantile(0.5, 'compression_ratio', 'method'), legend: '{{method}}' }],
      },
      {
        title: 'Validation drop, 95 %',
        description: 'Loss of accuracy by validation metric: original minus artifact, 0.01 is one point.',
        kind: 'timeseries',
        unit: 'percentunit',
        width: 8,
        queries: [{ expr: quantile(0.95, 'validation_drop_ratio', 'metric'), legend: '{{metric}}' }],
      },
      {
        title: 'Requirements',
        description: 'What pipelines demanded: met and not met.',
        kind: 'timeseries',
        unit: 'short',
        width: 8,
        stacked: true,
        queries: [{ expr: `sum by (outcome) (increase(${p}requirements_total{$in}[$rate]))`, legend: '{{outcome}}' }],
      },
    ],
  },
  {
    title: 'Device and children',
    panels: [
      {
        title: 'Kernel time',
        description: 'Seconds in each kernel per second.',
        kind: 'timeseries',
        unit: 'percentunit',
        width: 8,
        stacked: true,
        queries: [{ expr: `sum by (kernel) (rate(${p}gpu_kernel_seconds_total{$in}[$rate]))`, legend: '{{kernel}}' }],
      },
      {
        title: 'Kernel bandwidth',
        description:
          'Bytes read and written per second of each kernel; a fall means that the device is slower, not the disk.',
        kind: 'timeseries',
        unit: 'Bps',
        width: 8,
        queries: [
          {
            expr: `sum by (kernel) (rate(${p}gpu_kernel_bytes_total{$in}[$rate])) / sum by (kernel) (rate(${p}gpu_kernel_seconds_total{$in}[$rate]))`,
            legend: '{{kernel}}',
          },
        ],
      },
      {
        title: 'Losses and restarts',
        description:
          'Lost devices, restarts of the GPU worker, children that ended untold; more attempts than jobs follow.',
        kind: 'timeseries',
        unit: 'short',
        width: 8,
        queries: [
          { expr: `sum(increase(${p}device_lost_total{$in}[$rate]))`, legend: 'device lost' },
          { expr: `sum(increase(${p}worker_restarts_total{$in}[$rate]))`, legend: 'worker restarts' },
          {
            expr: `sum by (child, cause) (increase(${p}child_deaths_total{$in}[$rate])) > 0`,
            legend: '{{child}} {{cause}}',
          },
        ],
      },
      {
        title: 'Worker',
        description: '1 while the GPU worker is ready; how long its last start took.',
        kind: 'timeseries',
        unit: 'short',
        width: 8,
        queries: [
          { expr: `min(${p}worker_up{$in})`, legend: 'up' },
          { expr: `max(${p}worker_start_seconds{$in})`, legend: 'start, seconds' },
        ],
      },
      {
        title: 'Memory by process',
        description: 'Resident memory. GPU memory is not part of it, but for lavapipe.',
        kind: 'timeseries',
        unit: 'bytes',
        width: 8,
        stacked: true,
        queries: [
          { expr: `sum(${p}process_resident_memory_bytes{$in})`, legend: 'server' },
          { expr: `sum by (child) (${p}worker_resident_memory_bytes{$in})`, legend: '{{child}}' },
        ],
      },
      {
        title: 'Processor of the server',
        description: 'Cores used by the HTTP process alone.',
        kind: 'timeseries',
        unit: 'short',
        width: 8,
        queries: [{ expr: `rate(${p}process_cpu_seconds_total{$in}[$rate])`, legend: '{{instance}}' }],
      },
    ],
  },
  {
    title: 'Store',
    panels: [
      {
        title: 'Free space',
        description: 'Below the floor uploads and jobs are refused.',
        kind: 'timeseries',
        unit: 'bytes',
        width: 8,
        queries: [
          { expr: `${p}store_free_bytes{$in}`, legend: 'free {{instance}}' },
          { expr: `${p}store_floor_bytes{$in}`, legend: 'floor {{instance}}' },
        ],
      },
      {
        title: 'Bytes kept',
        description: 'Models, datasets, artifacts and reports, and their cap (0: none); what expired in each interval.',
        kind: 'timeseries',
        unit: 'bytes',
        width: 8,
        queries: [
          { expr: `sum by (kind) (${p}store_bytes{$in})`, legend: '{{kind}}' },
          { expr: `sum(${p}store_quota_bytes{$in})`, legend: 'cap' },
          { expr: `sum by (kind) (increase(${p}expired_bytes_total{$in}[$rate]))`, legend: 'expired {{kind}}' },
        ],
      },
      {
        title: 'Bytes moved',
        description: 'Uploads, and what compression read and wrote.',
        kind: 'timeseries',
        unit: 'Bps',
        width: 8,
        queries: [
          { expr: `sum by (kind) (rate(${p}uploaded_bytes_total{$in}[$rate]))`, legend: 'uploaded {{kind}}' },
          { expr: `sum(rate(${p}read_bytes_total{$in}[$rate]))`, legend: 'read' },
          { expr: `sum(rate(${p}written_bytes_total{$in}[$rate]))`, legend: 'written' },
        ],
      },
    ],
  },
  {
    title: 'HTTP',
    panels: [
      {
        title: 'Requests by status',
        description: '499: the client left.',
        kind: 'timeseries',
        unit: 'reqps',
        width: 8,
        stacked: true,
        queries: [
          {
            expr: `sum by (status) (rate(${p}http_request_duration_seconds_count{$in}[$rate]))`,
            legend: '{{status}}',
          },
        ],
      },
      {
        title: 'Latency by route, 99 %',
        description: 'From the header lines to the last byte: uploads, downloads and waits take as long as they take.',
        kind: 'timeseries',
        unit: 's',
        width: 8,
        queries: [{ expr: quantile(0.99, 'http_request_duration_seconds', 'route'), legend: '{{route}}' }],
      },
      {
        title: 'Event-loop delay, 99 %',
        description: 'Above a quarter of a second the HTTP process answers late.',
        kind: 'timeseries',
        unit: 's',
        width: 8,
        queries: [{ expr: `${p}nodejs_eventloop_lag_p99_seconds{$in}`, legend: '{{instance}}' }],
      },
      {
        title: 'Open',
        description: 'Uploads being received, event streams being followed, open files.',
        kind: 'timeseries',
        unit: 'short',
        width: 12,
        queries: [
          { expr: `sum(${p}uploads_in_progress{$in})`, legend: 'uploads' },
          { expr: `sum(${p}event_streams_open{$in})`, legend: 'event streams' },
          { expr: `sum(${p}process_open_fds{$in})`, legend: 'open files' },
        ],
      },
      {
        title: 'Webhooks',
        description: 'Attempts by outcome in each interval; webhooks that are due and that were given up.',
        kind: 'timeseries',
        unit: 'short',
        width: 12,
        queries: [
          { expr: `sum by (outcome) (increase(${p}webhook_attempts_total{$in}[$rate]))`, legend: '{{outcome}}' },
          { expr: `sum by (state) (${p}webhooks{$in})`, legend: '{{state}}' },
        ],
      },
    ],
  },
]
