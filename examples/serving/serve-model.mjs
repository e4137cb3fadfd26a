// Serves one ONNX model over HTTP with onnxruntime-node: what a compressed artifact is for, in one file.
//   MODEL=mnist.int8.onnx PORT=8081 node serve-model.mjs
//   GET  /healthz   200 once the model is loaded
//   GET  /          names, types and shapes of inputs and outputs
//   POST /predict   {"inputs": {"x": {"dims": [1, 4], "data": [0.1, 0.2, 0.3, 0.4]}}} -> {"outputs": {"y": {"dims", "data"}}}
// Runs one request after the other: onnxruntime itself uses all cores (THREADS; 0 lets it choose).

import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import ort from 'onnxruntime-node'

const { MODEL = 'model.onnx', HOST = '127.0.0.1', PORT = '8081', THREADS = '0' } = process.env
/** A batch of images as JSON numbers; more belongs into a binary protocol. */
const MOST_BODY_BYTES = 16 * 2 ** 20

const session = await ort.InferenceSession.create(MODEL, { intraOpNumThreads: Number(THREADS) })

/** A request that cannot be answered. */
class BadRequest extends Error {}

/** @param {unknown} value */
function tensorsOf(value) {
  const inputs = /** @type {Record<string, {dims?: unknown, data?: unknown}> | undefined} */ (
    /** @type {{inputs?: unknown}} */ (value)?.inputs
  )
  if (inputs === null || typeof inputs !== 'object') throw new BadRequest('"inputs" is missing')
  const unknown = Object.keys(inputs).filter((name) => !session.inputNames.includes(name))
  if (unknown.length > 0) throw new BadRequest(`no input is called ${unknown.join(', ')}`)
  return Object.fromEntries(
    session.inputMetadata.map((about) => {
      const { name } = about
      if (!about.isTensor) throw new BadRequest(`input "${name}" is not a tensor`)
      const { dims, data } = inputs[name] ?? {}
      if (!Array.isArray(dims) || !Array.isArray(data)) throw new BadRequest(`input "${name}" needs "dims" and "data"`)
      const wide = about.type === 'int64' || about.type === 'uint64'
      try {
        return [name, new ort.Tensor(about.type, wide ? data.map(BigInt) : data, dims)]
      } catch (error) {
        throw new BadRequest(`input "${name}": ${error instanceof Error ? error.message : error}`)
      }
    }),
  )
}

/** @type {Promise<unknown>} */
let turn = Promise.resolve()

/** @param {Record<string, ort.Tensor>} feeds */
async function predict(feeds) {
  const run = turn.then(() => session.run(feeds))
  turn = run.catch(() => {})
  const outputs = await run
  return Object.fromEntries(
    Object.entries(outputs).map(([name, tensor]) => {
      const data = Array.from(/** @type {ArrayLike<number | bigint>} */ (tensor.data), Number)
      return [name, { dims: tensor.dims, data }]
    }),
  )
}

/** @param {import('node:http').IncomingMessage} request */
async function answer(request) {
  const { pathname } = new URL(request.url ?? '/', 'http://host')
  const call = `${request.method} ${pathname}`
  if (call === 'GET /healthz') return { status: 200, body: { status: 'ok' } }
  if (call === 'GET /') return { status: 200, body: { inputs: session.inputMetadata, outputs: session.outputMetadata } }
  if (call !== 'POST /predict') return { status: 404, body: { error: 'GET /, GET /healthz or POST /predict' } }
  const length = Number(request.headers['content-length'])
  if (!(length <= MOST_BODY_BYTES)) return { status: 413, body: { error: `at most ${MOST_BODY_BYTES} bytes` } }
  try {
    return { status: 200, body: { outputs: await predict(tensorsOf(JSON.parse(await text(request)))) } }
  } catch (error) {
    // What onnxruntime refuses, such as a wrong rank, is the caller's as well.
    return { status: 400, body: { error: error instanceof Error ? error.message : String(error) } }
  }
}

const server = createServer((request, response) => {
  void answer(request).then(({ status, body }) => {
    // A body that was not read must not be taken for the next request.
    if (!request.complete) response.setHeader('Connection', 'close')
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body))
  })
})
server.listen(Number(PORT), HOST, () => {
  const address = /** @type {import('node:net').AddressInfo} */ (server.address())
  console.log(`serves ${MODEL} on http://${HOST}:${address.port}`)
})
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    server.close(() => void turn.then(() => session.release()))
    server.closeIdleConnections()
  })
}
