// A folder under the system's temporary folder that goes away when the test ends, and files written into it.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { SourceFile } from '../../src/tensor/model.ts'

export function tempFolder(test: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'tensorpress-test-'))
  test.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Writes files and gives them back as the source files of a model. */
export function writeFiles(folder: string, files: Record<string, Uint8Array | string>): SourceFile[] {
  return Object.entries(files).map(([name, content]) => {
    const path = join(folder, name)
    writeFileSync(path, content)
    return { name, path, sizeBytes: Buffer.from(content).length }
  })
}
