// Small published models as further seeds, where the folder of shared models lies beside the repository (or beside the folder
// of its worktrees). Without them the built seeds remain. Entry: smallModels.

import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = join(import.meta.dirname, '..', '..')

/** Paths of model files with one of these endings and at most so many bytes, sorted. */
export function smallModels(endings: readonly string[], maxBytes: number): string[] {
  const folder = [join(ROOT, '..', 'shared', 'models'), join(ROOT, '..', '..', 'shared', 'models')].find(existsSync)
  if (folder === undefined) return []
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).size <= maxBytes)
    .sort()
}
