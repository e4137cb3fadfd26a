// Which tensors a recipe step takes: name globs, roles, minimum size. Entry: compileSelect. Pure.
// Globs are picomatch's: `*` stops at `/`, `**` does not; a pattern equal to the whole name always matches it.

import picomatch from 'picomatch'
import { elementCount } from '../tensor/dtype.ts'
import type { SkipReason, TensorInfo, WeightRole } from '../tensor/model.ts'
import type { ResolvedStep } from './protocol.ts'

export type Selection = { selected: true } | { selected: false; reason: SkipReason; detail: string }

function compileGlobs(globs: readonly string[]): (name: string) => boolean {
  const exact = new Set(globs)
  if (exact.has('**')) return () => true
  const matchers = globs.map((glob) => picomatch(glob, { dot: true, nonegate: true }))
  return (name) => exact.has(name) || matchers.some((matches) => matches(name))
}

/** Why a tensor with these roles is not a weight; null when it is one. */
function roleReason(roles: readonly WeightRole[]): { reason: SkipReason; detail: string } {
  if (roles.includes('bias')) return { reason: 'bias', detail: 'a bias' }
  if (roles.includes('norm')) return { reason: 'norm', detail: 'a scale or offset of a normalisation' }
  if (roles.length === 0 || roles.includes('other')) {
    return { reason: 'not_a_weight', detail: roles.length === 0 ? 'no operator uses it' : 'its use is not a weight' }
  }
  return { reason: 'not_selected', detail: `the step does not select the role ${roles.join(', ')}` }
}

export function compileSelect(select: ResolvedStep['select']): (tensor: TensorInfo) => Selection {
  const matchesName = compileGlobs(select.names)
  const excluded = compileGlobs(select.exclude)
  const roles = new Set(select.roles)
  return (tensor) => {
    if (!matchesName(tensor.name))
      return { selected: false, reason: 'not_selected', detail: 'no name pattern selects it' }
    if (excluded(tensor.name)) return { selected: false, reason: 'not_selected', detail: 'a name pattern excludes it' }
    if (!tensor.roles.some((role) => roles.has(role))) return { selected: false, ...roleReason(tensor.roles) }
    const elements = elementCount(tensor.shape)
    if (elements < select.minElements) {
      const detail = `${elements} elements, the minimum is ${select.minElements}`
      return { selected: false, reason: 'too_small', detail }
    }
    return { selected: true }
  }
}
