// The compression methods, one line each. A recipe step names one by its id; its parameters are checked by params.ts.

import { cast } from './cast.ts'
import type { CompressionMethod } from './compression-method.ts'
import { pruneMagnitude } from './prune-magnitude.ts'
import { quantize } from './quantize.ts'
import { quantizeDeadZone } from './quantize-deadzone.ts'
import { quantizeDynamic } from './quantize-dynamic.ts'

/** Parameters are checked where a recipe is resolved, so the list forgets their types. */
export type AnyMethod = CompressionMethod<unknown>

export const METHODS: readonly AnyMethod[] = [
  pruneMagnitude as AnyMethod,
  quantize as AnyMethod,
  quantizeDeadZone as AnyMethod,
  quantizeDynamic as AnyMethod,
  cast as AnyMethod,
]

export function findMethod(id: string): AnyMethod | undefined {
  return METHODS.find((method) => method.id === id)
}
