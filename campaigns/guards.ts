// Guards of the product, each with the change that takes it away and the test that must notice. `text` stands exactly once in
// `file`; when the code moves on, the mutation campaign says which entry has to follow.

export interface Guard {
  /** What the product promises by it. */
  promise: string
  file: string
  text: string
  without: string
  test: { file: string; name: string }
  /** Part of the short form: a guard of each kind whose test takes a second or two. */
  short?: boolean
}

export const GUARDS: readonly Guard[] = [
  // store
  {
    promise: 'a file name cannot leave the folder of its upload',
    file: 'src/store/upload.ts',
    text: "part === '' || part === '.' || part === '..'",
    without: "part === '' || part === '.'",
    test: { file: 'test/store/upload.test.ts', name: 'the file name "../a" is refused' },
    short: true,
  },
  {
    promise: 'a body that turns out too large is stopped',
    file: 'src/store/upload.ts',
    text: 'if (totalBytes > limits.maxUploadBytes) refuseTooLarge(totalBytes)',
    without: 'if (totalBytes < 0) refuseTooLarge(totalBytes)',
    test: {
      file: 'test/store/upload.test.ts',
      name: 'a body that turns out too large is stopped and its file removed',
    },
  },
  {
    promise: 'one data folder has one server',
    file: 'src/store/data-folder.ts',
    text: "lock.exec('BEGIN EXCLUSIVE')",
    without: "lock.exec('BEGIN')",
    test: {
      file: 'test/jobs/service.test.ts',
      name: 'a second server on the same data folder is refused while the first lives',
    },
  },
  {
    promise: 'a model in use is not deleted',
    file: 'src/store/sqlite-catalog.ts',
    text: "if (user !== undefined) return { kind: 'in_use', jobId: String(user['id']) } as const",
    without: 'if (user === null) throw new Error()',
    test: { file: 'test/jobs/service.test.ts', name: 'a model is not deleted while a job uses it' },
  },
  {
    promise: 'a damaged page of the catalogue is found at start',
    file: 'src/store/sqlite-catalog.ts',
    text: '      refuseDamaged(db, path)\n',
    without: '',
    test: {
      file: 'test/store/damaged.test.ts',
      name: 'one damaged page in the middle is found at start, not weeks later',
    },
  },
  {
    promise: 'a publication that fails leaves no files',
    file: 'src/store/model-store.ts',
    text: '          await removeUnlisted(id, staged)\n',
    without: '',
    test: {
      file: 'test/faults/each-write.test.ts',
      name: 'a disk that is full at each write in turn, for one call, costs the request and nothing else',
    },
  },
  // jobs
  {
    promise: 'a lost device costs an attempt, not the job',
    file: 'src/jobs/job.ts',
    text: "['worker_crashed', 'worker_timeout', 'device_lost']",
    without: "['worker_crashed', 'worker_timeout']",
    test: { file: 'test/jobs/service.test.ts', name: 'a lost device costs an attempt and the worker is started again' },
  },
  {
    promise: 'a job that kills its worker is given up',
    file: 'src/jobs/job-queue.ts',
    text: 'job.attempt < options.maxAttempts',
    without: 'job.attempt < options.maxAttempts + 3',
    test: {
      file: 'test/jobs/service.test.ts',
      name: 'after three deaths the job fails with worker_crashed and the next job runs',
    },
  },
  {
    promise: 'an artifact that does not load is not kept',
    file: 'src/jobs/run-job.ts',
    text: "if (AppError.from(error).code === 'validation_failed') await steps.store?.dropCompression()",
    without: '',
    test: { file: 'test/jobs/service.test.ts', name: 'an artifact that does not load is never served and not kept' },
  },
  {
    promise: 'an unmet requirement fails the job',
    file: 'src/jobs/job-attempt.ts',
    text: 'const met = result.requirementMet !== false',
    without: 'const met = true',
    test: {
      file: 'test/jobs/service.test.ts',
      name: 'an unmet requirement fails the job with its report, and the artifact only comes on explicit request',
    },
    short: true,
  },
  {
    promise: 'a wall clock that jumps kills no child',
    file: 'src/jobs/child-process.ts',
    text: '    const now = performance.now()\n',
    without: '    const now = Date.now() - performance.timeOrigin\n',
    test: {
      file: 'test/faults/clock.test.ts',
      name: 'a clock that jumps a day forwards under a job costs no attempt and makes no negative time',
    },
  },
  {
    promise: 'a server that stood still does not blame its children',
    file: 'src/jobs/child-process.ts',
    text: '    lastMoved += pausedMs\n',
    without: '',
    test: {
      file: 'test/faults/stopped.test.ts',
      name: 'a server that stood still for longer than the limits of its children does not kill them',
    },
  },
  {
    promise: 'a clock that was set ahead expires nothing at once',
    file: 'src/jobs/age-clock.ts',
    text: 'return Math.min(wall, monotonic + trustedOffset)',
    without: 'return wall',
    test: {
      file: 'test/jobs/age-clock.test.ts',
      name: 'a step forwards ages nothing, is said once, and is believed after an hour',
    },
  },
  {
    promise: 'no time of a job lies before an earlier one, whatever the clock does',
    file: 'src/store/sqlite-catalog.ts',
    text: 'started_at = coalesce(started_at, max(created_at, ?))',
    without: 'started_at = coalesce(started_at, ?)',
    test: {
      file: 'test/faults/clock.test.ts',
      name: 'a clock that jumps a day backwards under a job costs no attempt and makes no negative time',
    },
  },
  {
    promise: 'bytes of an upload that became a model do not stay',
    file: 'src/store/orphans.ts',
    text: "state === 'receiving' || state === 'stored'",
    without: "state !== 'refused'",
    test: {
      file: 'test/store/data-folder.test.ts',
      name: 'the bytes of an upload that became a model are removed at start where a crash left them',
    },
  },
  {
    promise: 'a child that died unnoticed is a crash, not a bug',
    file: 'src/validate/inference-child.ts',
    text: ' || isBroken(error)) return',
    without: ') return',
    test: {
      file: 'test/validate/inference-child.test.ts',
      name: 'a child that is gone when it is asked, before its end was noticed, has crashed; that is no bug',
    },
  },
  {
    promise: 'a file is not blamed for a reader that somebody killed',
    file: 'src/jobs/worker-pool.ts',
    text: "return code === 'worker_crashed' && context['end'] === 'signal SIGKILL'",
    without: 'return code === context.toString()',
    test: {
      file: 'test/jobs/worker-pool.test.ts',
      name: 'a child that somebody kills under a file says nothing about the file, unless it happens again',
    },
  },
  // readers
  {
    promise: 'tensors of a safetensors file do not overlap',
    file: 'src/formats/safetensors/header.ts',
    text: 'if (entry.offsetBytes < position)',
    without: 'if (entry.offsetBytes < 0)',
    test: { file: 'test/malformed/safetensors.test.ts', name: 'refuses overlapping tensors' },
    short: true,
  },
  {
    promise: 'a safetensors header does not reach beyond its file',
    file: 'src/formats/safetensors/header.ts',
    text: 'if (8 + headerBytes > sizeBytes) {',
    without: 'if (headerBytes < 0) {',
    test: { file: 'test/malformed/safetensors.test.ts', name: 'refuses a header length beyond the file' },
  },
  {
    promise: 'external data of an ONNX model stays in its folder',
    file: 'src/formats/onnx/external-data.ts',
    text: "if (location.split(/[/\\\\]/).includes('..')) {",
    without: "if (location === '..') {",
    test: { file: 'test/malformed/onnx.test.ts', name: 'refuses external data with a parent folder further on' },
  },
  {
    promise: 'external data ends within its file',
    file: 'src/formats/onnx/external-data.ts',
    text: 'if (offsetBytes + lengthBytes > sizeBytes) {',
    without: 'if (offsetBytes > sizeBytes) {',
    test: { file: 'test/malformed/onnx.test.ts', name: 'refuses external data with a length beyond the file' },
  },
  {
    promise: 'a dataset that was damaged on its way is refused',
    file: 'src/formats/wire/npz.ts',
    text: 'if (crc !== entry.crc32)',
    without: 'if (crc < 0)',
    test: { file: 'test/malformed/npz.test.ts', name: 'refuses a checksum that does not hold' },
  },
  // http
  {
    promise: 'uploads in progress are bounded',
    file: 'src/http/upload-gate.ts',
    text: 'if (this.#inProgress >= allowed) {',
    without: 'if (this.#inProgress > allowed + 1000) {',
    test: { file: 'test/http/models.test.ts', name: 'uploads beyond parallelUploads get 429 with Retry-After' },
  },
  {
    promise: 'a page of another site may not write',
    file: 'src/http/security-headers.ts',
    text: 'if (origin !== undefined && !reads) {',
    without: 'if (origin === null) {',
    test: {
      file: 'test/http/app.test.ts',
      name: 'what a page of another site sends is refused, and so is a rebound host name',
    },
  },
  {
    promise: 'a body that stalls is given up',
    file: 'src/http/slow-clients.ts',
    text: 'slowWindows = newBytes >= leastBytes || socket.isPaused() ? 0 : slowWindows + 1',
    without: 'slowWindows = newBytes < 0 ? 1 : 0',
    test: {
      file: 'test/http/server.test.ts',
      name: 'a body that stalls gets 408 and its connection ends; a steady one goes through',
    },
  },
  // access
  {
    promise: 'a key does only what its scopes say',
    file: 'src/access/api-key.ts',
    text: "return key.scopes.has('admin') || key.scopes.has(scope)",
    without: "return key.scopes.has('admin') || key.scopes.size > 0",
    test: {
      file: 'test/http/access.test.ts',
      name: 'every route that is not open answers 401 without a key, 403 with a key of other scopes, and lets its scope and admin in',
    },
    short: true,
  },
  {
    promise: 'a secret is compared whole',
    file: 'src/access/key-ring.ts',
    text: 'if (timingSafeEqual(key.hash, hash)) found = key',
    without: 'if (key.hash[0] === hash[0] || secret.length > 0) found = key',
    test: {
      file: 'test/http/access.test.ts',
      name: 'anything else is 401, and what was sent is repeated neither in the answer nor in a log line',
    },
  },
  // kernels
  {
    promise: 'the shader gives the codes of the scalar reference: offsets of signed codes',
    file: 'shaders/quantize-int8.wgsl',
    text: 'select(0u, 0x80808080u, is_signed)',
    without: 'select(0u, 0x80808081u, is_signed)',
    test: { file: 'test/kernels/quantize-int8.test.ts', name: 'ties round to even and large values clamp' },
  },
  {
    promise: 'infinities and NaN get a defined code',
    file: 'shaders/quantize-int8.wgsl',
    text: '(loaded & ABS_MASK) >= INFINITY_BITS',
    without: '(loaded & ABS_MASK) > INFINITY_BITS',
    test: {
      file: 'test/kernels/quantize-int8.test.ts',
      name: 'NaN and infinities take the code of 0, in the dead zone or not',
    },
  },
  {
    promise: 'rounding is half to even',
    file: 'src/kernels/float-bits.ts',
    text: 'return Math.fround(value + ROUND_MAGIC) - ROUND_MAGIC',
    without: 'return Math.round(value)',
    test: { file: 'test/kernels/quantize-int8.test.ts', name: 'ties round to even and large values clamp' },
  },
  // output
  {
    promise: 'a log that cannot be written does not end the server',
    file: 'src/telemetry/log.ts',
    text: "return output.on('error', onFailure)",
    without: 'return output',
    test: {
      file: 'test/faults/lost-output.test.ts',
      name: 'a full disk under the log loses lines, never requests, and lines come again with space',
    },
  },
]
