// Takes out of a node_modules folder what one machine never runs: native binaries of other platforms, source maps, typings
// and pages for people. Entry: `node scripts/image/keep-platform.mjs FOLDER [PLATFORM ARCH]` (default: those of this Node).
// Licence texts stay. Plain JavaScript without packages, since the packages are what it works on.

import * as fs from 'node:fs'
import { join } from 'node:path'

const [folder, platform = process.platform, arch = process.arch] = process.argv.slice(2)
if (folder === undefined || !fs.existsSync(join(folder, 'onnxruntime-node'))) {
  console.error('usage: node scripts/image/keep-platform.mjs NODE_MODULES [PLATFORM ARCH]')
  process.exit(2)
}

/** Folders of native binaries: their entries are named by platform (and within it by architecture). */
const onnxruntime = join(folder, 'onnxruntime-node', 'bin')
for (const version of fs.readdirSync(onnxruntime)) {
  keepOnly(join(onnxruntime, version), platform)
  keepOnly(join(onnxruntime, version, platform), arch)
}
keepOnly(join(folder, 'webgpu', 'dist'), platform === 'darwin' ? 'darwin-universal' : `${platform}-${arch}`)

/** Swagger UI comes with every build of it; src/http/pages.ts serves three files. */
const swagger = join(folder, 'swagger-ui-dist')
const served = [
  'swagger-ui-bundle.js',
  'swagger-ui-bundle.js.LICENSE.txt',
  'swagger-ui.css',
  'favicon-32x32.png',
  'package.json',
  'LICENSE',
  'NOTICE',
]
for (const name of fs.readdirSync(swagger)) {
  if (!served.includes(name)) fs.rmSync(join(swagger, name), { recursive: true })
}

/** Text that no program reads. Licences are kept whatever their ending. */
const forPeople = /\.(map|d\.ts|d\.mts|d\.cts|ts|mts|cts|md|markdown|flow|tsbuildinfo)$/i
for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
  if (entry.isFile() && forPeople.test(entry.name) && !/licen[cs]e|notice|copying/i.test(entry.name)) {
    fs.rmSync(join(entry.parentPath, entry.name))
  }
}

/**
 * @param {string} parent
 * @param {string} name
 */
function keepOnly(parent, name) {
  const entries = fs.readdirSync(parent)
  if (!entries.includes(name)) throw new Error(`${parent} has no ${name} among ${entries.join(', ')}`)
  for (const entry of entries) if (entry !== name) fs.rmSync(join(parent, entry), { recursive: true })
}
