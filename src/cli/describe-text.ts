// How a model description and a plan read on a terminal. Pure functions from the documents of src/jobs/protocol.ts to lines.

import type { ModelDescription, PlanDocument, PlanRow } from '../jobs/protocol.ts'
import { bytesText, type Column, percentText, printable, shapeText, tableLines } from './text-table.ts'

/** What `tensorpress inspect` prints. */
export function describeLines(description: ModelDescription): string[] {
  const { summary, tensors } = description
  const bytes = description.files.reduce((sum, file) => sum + file.sizeBytes, 0)
  const facts: [string, string][] = [
    ['format', summary.format === 'onnx' ? `ONNX, opset ${summary.opset}, IR ${summary.irVersion}` : 'safetensors'],
    ...(summary.producer ? [['producer', summary.producer] as [string, string]] : []),
    ['files', `${description.files.length} (${bytesText(bytes)})`],
    ['tensors', `${description.tensorCount} with ${description.parameterCount.toLocaleString('en')} values`],
    ...summary.inputs.map((input) => ['input', valueText(input)] as [string, string]),
    ...summary.outputs.map((output) => ['output', valueText(output)] as [string, string]),
    ...Object.entries(summary.metadata).map(
      ([key, value]) => ['metadata', `${key} = ${clip(value)}`] as [string, string],
    ),
    ...summary.alreadyCompressed.map((what) => ['already', `compressed: ${what}`] as [string, string]),
    ...summary.notes.map((note) => ['note', note] as [string, string]),
  ]
  const columns: Column[] = [
    { title: 'TENSOR', maxWidth: 48 },
    { title: 'DTYPE' },
    { title: 'SHAPE', maxWidth: 24 },
    { title: 'BYTES', align: 'right' },
    { title: summary.format === 'onnx' ? 'USED BY' : 'LOOKS LIKE' },
  ]
  const rows = tensors.map((tensor) => [
    tensor.name,
    tensor.dtype,
    shapeText(tensor.shape),
    bytesText(tensor.bytes),
    tensor.locked?.detail ?? usesText(summary.format === 'onnx' ? tensor.uses.map(({ op }) => op) : tensor.roles),
  ])
  return [...facts.map(([name, value]) => `${name.padEnd(9)} ${printable(value)}`), '', ...tableLines(columns, rows)]
}

/** A file without a graph has no operators: there the role is guessed from shape and name. */
function usesText(uses: string[]): string {
  return [...new Set(uses)].join(', ') || 'nothing'
}

function valueText(value: { name: string; dtype: string; shape: (number | string)[] }): string {
  return `${value.name} ${value.dtype}[${value.shape.join(', ')}]`
}

/** Metadata may hold whole vocabularies. */
function clip(text: string): string {
  return text.length <= 100 ? text : `${text.slice(0, 100)}... (${text.length} characters)`
}

/** What `tensorpress plan` prints. */
export function planLines(plan: PlanDocument): string[] {
  const columns: Column[] = [
    { title: 'TENSOR', maxWidth: 44 },
    { title: 'SHAPE', maxWidth: 20 },
    { title: 'BEFORE', align: 'right' },
    { title: 'AFTER', align: 'right' },
    { title: 'WHAT AND WHY' },
  ]
  return [
    ...tableLines(columns, plan.tensors.map(planCells)),
    '',
    ...planSummaryLines(plan),
    ...plan.notes.map(({ tensor, note }) => printable(`note: ${tensor === null ? '' : `${tensor}: `}${note}`)),
  ]
}

function planCells(row: PlanRow): string[] {
  return [
    row.name,
    shapeText(row.shape),
    bytesText(row.bytesBefore),
    bytesText(row.bytesAfter),
    row.action === 'keep' ? `kept: ${row.detail}` : row.detail,
  ]
}

function planSummaryLines(plan: PlanDocument): string[] {
  const compressed = plan.tensors.filter((row) => row.action === 'compress')
  const { length } = plan.outputFiles
  const ratio = percentText(plan.bytesAfter / Math.max(1, plan.bytesBefore))
  return [
    `${compressed.length} of ${plan.tensors.length} tensors are compressed; the model goes from ${bytesText(plan.bytesBefore)} to ${bytesText(plan.bytesAfter)} (${ratio})`,
    `output: ${length} file${length === 1 ? '' : 's'}; peak memory about ${bytesText(plan.peakMemoryBytes)}`,
  ]
}
