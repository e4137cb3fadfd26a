import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { evaluateRequirements, metricFigure, parseRequirements } from '../../src/validate/requirement.ts'
import { outputComparison, readBackValidation, runValidation } from '../support/sample-validation.ts'

function refusal(input: unknown): AppError {
  try {
    parseRequirements(input)
  } catch (error) {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'request_invalid')
    return error
  }
  return assert.fail(`accepted ${JSON.stringify(input)}`)
}

test('reads the command line form, the object form, a list and JSON text alike', () => {
  const expected = [{ metric: 'top1', maxDrop: 0.01 }]
  assert.deepEqual(parseRequirements('metric=top1,maxDrop=0.01'), expected)
  assert.deepEqual(parseRequirements({ metric: 'top1', maxDrop: 0.01 }), expected)
  assert.deepEqual(parseRequirements([{ metric: 'top1', maxDrop: 0.01 }]), expected)
  assert.deepEqual(parseRequirements('{"metric":"top1","maxDrop":0.01}'), expected)
})

test('takes nothing asked as no requirement', () => {
  for (const nothing of [undefined, null, '', []]) assert.deepEqual(parseRequirements(nothing), [])
  assert.equal(evaluateRequirements([], { validation: null, sizeRatio: 1 }), null)
})

test('takes limits on size and latency without a metric', () => {
  assert.deepEqual(parseRequirements('maxSizeRatio=0.3,maxLatencyRatio=1.2'), [
    { maxSizeRatio: 0.3, maxLatencyRatio: 1.2 },
  ])
})

test('names the bad key and what is allowed', () => {
  assert.match(refusal({ metric: 'top1', maxDrp: 1 }).detail, /require\.maxDrp/)
  assert.equal(refusal({ metric: 'top1', maxDrp: 1 }).context['path'], 'require.maxDrp')
  assert.match(refusal({ metric: 'accuracy', maxDrop: 1 }).detail, /require\.metric.*top1\|top5/)
  assert.match(refusal([{ metric: 'top1', min: 1 }, { metric: 'top1' }]).detail, /require\[1\]/)
})

test('refuses what cannot be judged', () => {
  refusal('metric=top1')
  refusal('maxDrop=0.1')
  refusal('metric=top1,maxDrop=abc')
  refusal('metric=top1,maxDrop=-1')
  refusal('metric=top1,maxDrop')
  refusal('metric=top1,metric=top5,min=1')
  refusal('{"metric":')
  refusal({})
  refusal(7)
  assert.match(refusal('metric=sqnr_db,maxDrop=3').detail, /use min/)
  assert.match(refusal('metric=mse,min=3').detail, /use maxDrop/)
})

test('judges a drop on the point estimate and shows the interval', () => {
  const validation = runValidation({ top1: { before: 0.98, after: 0.972 } })
  const loose = evaluateRequirements([{ metric: 'top1', maxDrop: 0.01 }], { validation, sizeRatio: 0.3 })!
  assert.equal(loose.met, true)
  assert.equal(loose.checks[0]?.found?.toFixed(6), '0.008000')
  assert.deepEqual(loose.checks[0]?.ci95, [0.003, 0.013])
  assert.match(loose.checks[0]!.sentence, /drops by 0\.008 \(95 % CI 0\.003 to 0\.013\)/)
  const tight = evaluateRequirements([{ metric: 'top1', maxDrop: 0.005 }], { validation, sizeRatio: 0.3 })!
  assert.equal(tight.met, false)
})

test('meets a limit that is hit exactly, whatever binary rounding says', () => {
  const validation = runValidation({ top1: { before: 0.98, after: 0.97 } })
  assert.equal(evaluateRequirements([{ metric: 'top1', maxDrop: 0.01 }], { validation, sizeRatio: 1 })?.met, true)
})

test('counts a gain as a negative drop', () => {
  const validation = runValidation({ top1: { before: 0.9, after: 0.95 } })
  const outcome = evaluateRequirements([{ metric: 'top1', maxDrop: 0 }], { validation, sizeRatio: 1 })!
  assert.equal(outcome.met, true)
  assert.ok(outcome.checks[0]!.found! < 0)
})

test('judges minimum, size and latency together: one unmet is unmet', () => {
  const validation = runValidation({ top1: { before: 0.98, after: 0.97 }, latencyRatio: 1.5 })
  const outcome = evaluateRequirements([{ metric: 'top1', min: 0.95, maxSizeRatio: 0.3, maxLatencyRatio: 1.2 }], {
    validation,
    sizeRatio: 0.25,
  })!
  assert.deepEqual(
    outcome.checks.map(({ condition, met }) => [condition, met]),
    [
      ['min', true],
      ['maxSizeRatio', true],
      ['maxLatencyRatio', false],
    ],
  )
  assert.equal(outcome.met, false)
})

test('is unmet when the metric does not exist for this model and data', () => {
  const unlabelled = runValidation({})
  for (const metric of ['top1', 'top5', 'f1', 'f1_macro'] as const) {
    const outcome = evaluateRequirements([{ metric, maxDrop: 1 }], { validation: unlabelled, sizeRatio: 1 })!
    assert.equal(outcome.met, false)
    assert.match(outcome.checks[0]!.sentence, /could not be measured/)
  }
  const off = evaluateRequirements([{ metric: 'cosine', min: 0.1 }], { validation: null, sizeRatio: 1 })!
  assert.equal(off.met, false)
})

test('takes the worst output for cosine, SQNR, MSE and agreement', () => {
  const validation = runValidation({
    outputs: [
      outputComparison({ cosine: 0.99, sqnrDb: 30, mse: 0.1, agreement: 1 }),
      outputComparison({ cosine: 0.9, sqnrDb: 12, mse: 0.4, agreement: 0.75 }),
    ],
  })
  assert.equal(metricFigure(validation, 'cosine')?.after, 0.9)
  assert.equal(metricFigure(validation, 'sqnr_db')?.after, 12)
  assert.equal(metricFigure(validation, 'mse')?.loss.value, 0.4)
  assert.equal(metricFigure(validation, 'agreement')?.loss.value, 0.25)
})

test('meets any SQNR with identical outputs, and no output metric with a new NaN', () => {
  const identical = runValidation({ outputs: [outputComparison({ identical: true, sqnrDb: null, cosine: 1, mse: 0 })] })
  const require = [{ metric: 'sqnr_db' as const, min: 80 }]
  assert.equal(evaluateRequirements(require, { validation: identical, sizeRatio: 1 })?.met, true)
  const broken = runValidation({ outputs: [outputComparison({ nonFiniteIntroduced: 1, sqnrDb: 99 })] })
  assert.equal(evaluateRequirements(require, { validation: broken, sizeRatio: 1 })?.met, false)
})

test('outputs that are NaN everywhere in both models meet no requirement', () => {
  const nothing = outputComparison({ identical: true, sqnrDb: null, cosine: null, mse: 0, nonFiniteBefore: 100 })
  const validation = runValidation({ outputs: [nothing] })
  for (const metric of ['sqnr_db', 'cosine', 'mse'] as const) assert.equal(metricFigure(validation, metric), null)
})

test('judges read-back weights by cosine, SQNR and MSE', () => {
  const validation = readBackValidation({ cosine: 0.999, sqnrDb: 40, mse: 1e-5 })
  const met = (requirement: Parameters<typeof evaluateRequirements>[0][number]) =>
    evaluateRequirements([requirement], { validation, sizeRatio: 0.26 })?.met
  assert.equal(met({ metric: 'sqnr_db', min: 39 }), true)
  assert.equal(met({ metric: 'sqnr_db', min: 41 }), false)
  assert.equal(met({ metric: 'cosine', maxDrop: 0.002 }), true)
  assert.equal(met({ metric: 'mse', maxDrop: 1e-6 }), false)
  assert.equal(met({ metric: 'top1', maxDrop: 1 }), false)
})
