// The command as npm installs it, for the rows that start it: in a checkout its modules are joined first, as for publishing, since
// starting from some three hundred sources is what developers wait for, not users. Entry: installProgram().

import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = join(import.meta.dirname, '..')

/** The path of the command; made below `folder` in a checkout, the one that is there in a bundle, which has no sources. */
export function installProgram(folder: string): string {
  const builder = join(ROOT, 'scripts/build.ts')
  if (!existsSync(builder)) return join(ROOT, 'bin/tensorpress')
  const target = join(folder, 'package')
  const { files } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { files: string[] }
  for (const path of ['package.json', ...files.filter((name) => name !== 'dist')]) {
    cpSync(join(ROOT, path), join(target, path), { recursive: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(target, 'node_modules'))
  const { status } = spawnSync(process.execPath, [builder, '--output', join(target, 'dist')], { stdio: 'inherit' })
  if (status !== 0) throw new Error(`the build ended with ${status}`)
  return join(target, 'bin/tensorpress')
}
