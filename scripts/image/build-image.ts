// Carries out the stages of a parsed Dockerfile in root file systems. Entry: buildImage, which returns the root of the last
// stage. The base images are the only thing that is replaced (root-filesystem.ts); RUN and COPY lines are taken as they stand.

import * as fs from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { contextFiles } from './build-context.ts'
import type { Stage, Step } from './dockerfile.ts'
import { copyTree, makeBases, runInside, shell } from './root-filesystem.ts'

export interface BuildOptions {
  stages: readonly Stage[]
  /** The checkout. */
  root: string
  /** Where root file systems are made; its bases are kept for the next run. */
  folder: string
  say: (line: string) => void
}

export function buildImage({ stages, root, folder, say }: BuildOptions): { root: string; baseBytes: number } {
  const [first, last] = [stages[0], stages.at(-1)]
  if (stages.length !== 2 || !first || !last) throw new Error('expected two stages: build, and the image itself')
  const bases = makeBases(folder, first.from, last.from)
  const roots = new Map<string, string>()
  for (const [index, stage] of stages.entries()) {
    const stageRoot = join(folder, `stage-${stage.name ?? index}`)
    fs.rmSync(stageRoot, { recursive: true, force: true })
    copyTree(stage === first ? bases.node : bases.debian, stageRoot)
    for (const step of stage.steps) {
      const start = performance.now()
      if (step.kind === 'run') runInside(stageRoot, step.command, step)
      else copy(step, step.from === null ? contextAt(root, folder) : required(roots, step.from), stageRoot)
      const text =
        step.kind === 'run' ? `RUN ${step.command.replaceAll(/\s+/g, ' ')}` : `COPY ${step.sources.join(' ')}`
      say(`line ${step.line}: ${shorten(text)} (${((performance.now() - start) / 1000).toFixed(1)} s)`)
    }
    // Docker makes the working directory of a container whether or not a step wrote there.
    fs.mkdirSync(join(stageRoot, stage.config.workdir), { recursive: true })
    roots.set(stage.name ?? String(index), stageRoot)
  }
  return { root: [...roots.values()].at(-1)!, baseBytes: treeBytes(bases.debian) }
}

/** The files that an engine would be sent, laid out in a folder of their own. */
function contextAt(root: string, folder: string): string {
  const context = join(folder, 'context')
  fs.rmSync(context, { recursive: true, force: true })
  for (const path of contextFiles(root)) {
    fs.mkdirSync(join(context, dirname(path)), { recursive: true })
    fs.copyFileSync(join(root, path), join(context, path))
  }
  return context
}

/** A folder's content, or files, to a folder; a single file to a new name. All of it belongs to root, as the engine does it. */
function copy(step: Step & { kind: 'copy' }, from: string, to: string): void {
  const target = join(to, step.target.startsWith('/') ? step.target : join(step.cwd, step.target))
  const intoFolder = step.sources.length > 1 || /(^|\/)\.?$/.test(step.target)
  for (const source of step.sources) {
    const path = join(from, source)
    if (fs.statSync(path).isDirectory()) {
      fs.mkdirSync(target, { recursive: true })
      shell('cp -dR --preserve=mode,timestamps "$FROM/." "$TO"', { env: { FROM: path, TO: target } })
    } else {
      const file = intoFolder ? join(target, basename(source)) : target
      fs.mkdirSync(dirname(file), { recursive: true })
      fs.copyFileSync(path, file)
    }
  }
}

function required(roots: ReadonlyMap<string, string>, name: string): string {
  const found = roots.get(name)
  if (found === undefined) throw new Error(`COPY --from=${name}: there is no such stage before`)
  return found
}

/** Bytes of all files, each inode once. */
export function treeBytes(path: string): number {
  return Number.parseInt(shell('du -sb --one-file-system "$TREE"', { env: { TREE: path } }), 10)
}

function shorten(text: string): string {
  return text.length > 110 ? `${text.slice(0, 107)}...` : text
}
