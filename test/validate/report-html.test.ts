import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { buildReport, type ReportInput } from '../../src/validate/report.ts'
import { renderReportHtml } from '../../src/validate/report-html.ts'
import { bytesText, escapeHtml, html, numberText, signedText } from '../../src/validate/report-text.ts'
import { sampleReportInput } from '../support/sample-report.ts'
import { readBackValidation, runValidation } from '../support/sample-validation.ts'
import { tempFolder } from '../support/temp-folder.ts'

function page(more: Partial<ReportInput> = {}): string {
  return renderReportHtml(buildReport({ ...sampleReportInput(), ...more }))
}

/** Names as a hostile model or client would choose them. */
const ATTACK = `"><script>alert(1)</script><img src=x onerror='alert(2)'>`

test('shows verdict, sizes, accuracy with intervals, tensors and hashes', () => {
  const text = page({ validation: runValidation({ top1: { before: 0.98, after: 0.97 } }), requirements: [] })
  assert.match(text, /Checked; no requirement to judge by/)
  assert.match(text, /41\.7 %/)
  assert.match(text, /98\.00 %<\/td><td class="n">97\.00 %/)
  assert.match(text, /−1\.5 pt to −0\.5 pt/)
  assert.match(text, /Confusion, artifact/)
  assert.ok(text.includes('c'.repeat(64)), 'the hash of the artifact')
  assert.match(text, /int8 per channel/)
})

test('says clearly when the requirement is met, not met, or nothing was validated', () => {
  const validation = runValidation({ top1: { before: 0.98, after: 0.97 } })
  assert.match(page({ validation, requirements: [{ metric: 'top1', maxDrop: 0.02 }] }), /class="verdict good"/)
  assert.match(page({ validation, requirements: [{ metric: 'top1', maxDrop: 0.001 }] }), /class="verdict bad"/)
  const off = page({ validation: null, requirements: [] })
  assert.match(off, /class="verdict warn"/)
  assert.match(off, /nothing is known about accuracy/)
})

test('says when the artifact came from an earlier job', () => {
  assert.match(page({ artifactReused: true }), /earlier job had made the same artifact/)
  assert.doesNotMatch(page(), /earlier job/)
})

test('marks synthetic inputs as such', () => {
  assert.match(page({ validation: runValidation({}) }), /synthetic, seed 1/)
})

test('shows a read-back validation', () => {
  const text = page({ validation: readBackValidation({ cosine: 0.9991, sqnrDb: 41.2, mse: 1e-5 }) })
  assert.match(text, /41\.2 dB/)
  assert.match(text, /no graph, so no model was run/)
})

test('escapes every name that a model or client chose', () => {
  const base = sampleReportInput()
  const weight = { ...base.compression.tensors[0]!, name: ATTACK, detail: ATTACK, roles: [], steps: [ATTACK] }
  const histogram = { from: -1, to: 1, before: [1, 2, 3], after: [0, 6, 0], threshold: 0.2 }
  const validation = runValidation({ top1: { before: 1, after: 1 } })
  validation.outputs[0]!.name = ATTACK
  validation.inputs.tensors[0]!.name = ATTACK
  validation.warnings.push(ATTACK)
  const text = page({
    jobId: ATTACK,
    model: { ...base.model, fileName: ATTACK, files: [{ name: ATTACK, sizeBytes: 1, sha256: null }] },
    dataset: { id: null, fileName: ATTACK, sizeBytes: 1, sha256: null },
    recipe: { ...base.recipe, name: ATTACK },
    compression: {
      ...base.compression,
      device: { ...base.compression.device, adapter: ATTACK, driver: ATTACK },
      tensors: [{ ...weight, resolved: { [ATTACK]: ATTACK }, histogram }],
      plan: { ...base.compression.plan, notes: [{ tensor: ATTACK, note: ATTACK }] },
      kernelTimes: [{ kernel: ATTACK, dispatches: 1, seconds: 1, bytes: 1, source: 'wall' }],
      files: [{ name: ATTACK, sizeBytes: 1, sha256: null, zstdBytes: null, zstdSampled: false }],
    },
    validation,
  })
  assert.ok(!/<script/i.test(text))
  assert.ok(!/<img/i.test(text))
  assert.match(text, /&lt;script&gt;/)
})

test('shows invisible and direction-changing characters as escapes', () => {
  assert.equal(escapeHtml('a\u202eb\u0000c\u200d'), 'a\\u202eb\\u0000c\\u200d')
  assert.equal(escapeHtml('line\nline'), 'line\nline')
  assert.equal(html`<i>${'a&b'}</i>${null}${[html`<b>${1}</b>`]}`.text, '<i>a&amp;b</i><b>1</b>')
})

test('needs nothing from outside and holds no script', () => {
  const text = page({ validation: runValidation({ top1: { before: 0.98, after: 0.97 } }) })
  assert.ok(!/<script|<link|<iframe|@import|url\(|src=|href=|\son\w+=/i.test(text))
})

test('draws histograms with the band that became zero, on a page that stays small', () => {
  const base = sampleReportInput()
  const histogram = { from: -1, to: 1, before: [3, 100, 2], after: [3, 90, 2], threshold: 0.25 }
  const text = page({
    compression: { ...base.compression, tensors: [{ ...base.compression.tensors[0]!, histogram }] },
  })
  assert.match(text, /\|w\| ≤ 0\.25 became 0/)
  // 320 units wide over [-1, 1]: the band from -0.25 to 0.25 starts at 120 and is 80 wide.
  assert.match(text, /<rect x="120\.0" y="0" width="80\.0"/)
  assert.match(text, /artifact, dequantized/)
})

test('folds away kept tensors and cuts very long tables', () => {
  const base = sampleReportInput()
  const one = { ...base.compression.tensors[0]!, action: 'keep' as const, reason: 'bias' as const }
  const tensors = Array.from({ length: 3000 }, (_, i) => ({ ...one, name: `tensor-${i}` }))
  const text = page({ compression: { ...base.compression, tensors } })
  assert.match(text, /<details><summary>The 3 000 tensors that were kept/)
  assert.equal(text.match(/tensor-\d+/g)?.length, 500)
  assert.ok(text.length < 1_000_000)
})

test('writes numbers for reading', () => {
  assert.equal(bytesText(1536), '1.5 KiB')
  assert.equal(bytesText(5 * 2 ** 30), '5 GiB')
  assert.equal(bytesText(null), 'not measured')
  assert.equal(numberText(0.000012345), '1.23e-5')
  assert.equal(numberText(1234.5678), '1235')
  assert.equal(signedText(-0.5), '−0.5')
  assert.equal(signedText(0), '±0')
})

const BROWSER = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) =>
  existsSync(path),
)

test('renders in a browser', { skip: BROWSER === undefined ? 'no Chromium on this machine' : false }, (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'report.html')
  const picture = join(folder, 'report.png')
  writeFileSync(path, page({ validation: runValidation({ top1: { before: 0.98, after: 0.97 } }) }))
  const options = ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--window-size=900,1200']
  execFileSync(
    BROWSER!,
    [...options, `--user-data-dir=${folder}/profile`, `--screenshot=${picture}`, `file://${path}`],
    {
      stdio: 'ignore',
      timeout: 60_000,
    },
  )
  // An empty white page of this size compresses to a few KB.
  assert.ok(statSync(picture).size > 40_000, `${statSync(picture).size} bytes`)
})
