// The import layers of src/ as data, for layers.test.ts and for the table in docs/architecture.md.

/** Layer -> what it may import besides itself. A name is a folder of src/ or a file of src/ without its ending. */
export const LAYERS: Record<string, string[]> = {
  errors: [],
  version: [],
  'stop-signal': [],
  tensor: ['errors'],
  'compute/compute-device': ['tensor', 'errors'],
  compute: ['compute/compute-device', 'kernels', 'tensor', 'errors'],
  kernels: ['compute/compute-device', 'tensor', 'errors'],
  runtime: ['tensor', 'errors'],
  'formats/wire': ['tensor', 'errors'],
  formats: ['formats/wire', 'tensor', 'errors'],
  methods: ['tensor', 'errors'],
  'jobs/protocol': ['compute/compute-device', 'tensor', 'errors'],
  execute: ['methods', 'formats', 'kernels', 'compute', 'compute/compute-device', 'jobs/protocol', 'tensor', 'errors'],
  validate: [
    'formats',
    'formats/wire',
    'runtime',
    'compute/compute-device',
    'jobs/protocol',
    'tensor',
    'errors',
    'version',
  ],
  store: ['tensor', 'errors'],
  jobs: [
    'execute',
    'validate',
    'methods',
    'formats',
    'kernels',
    'compute',
    'compute/compute-device',
    'runtime',
    'jobs/protocol',
    'store',
    'tensor',
    'errors',
    'version',
  ],
  telemetry: ['jobs', 'jobs/protocol', 'validate', 'compute/compute-device', 'errors', 'version'],
  config: ['errors'],
  access: ['errors'],
  http: [
    'access',
    'jobs',
    'validate',
    'jobs/protocol',
    'compute/compute-device',
    'telemetry',
    'config',
    'tensor',
    'errors',
    'version',
  ],
  app: ['http', 'jobs', 'telemetry', 'config', 'errors', 'version'],
  main: ['stop-signal', 'access', 'app', 'http', 'jobs', 'telemetry', 'config', 'errors', 'version'],
  cli: [
    'stop-signal',
    'access',
    'main',
    'config',
    'jobs',
    'jobs/protocol',
    'compute/compute-device',
    'validate',
    'tensor',
    'errors',
    'version',
  ],
}

/** Native addons and who alone may load them. */
export const NATIVE: Record<string, string> = {
  webgpu: 'src/compute/webgpu-device.ts',
  'onnxruntime-node': 'src/runtime/ort-session.ts',
}

/** Layers that only child processes may load: native code, and whatever parses untrusted files. */
export const FOR_CHILDREN_ONLY: ReadonlySet<string> = new Set([
  'compute',
  'runtime',
  'formats',
  'formats/wire',
  'execute',
])
