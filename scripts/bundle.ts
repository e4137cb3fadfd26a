// npm run bundle: everything that Tensorpress needs on a Linux x64 host without network, as one archive of less than 60 MiB:
//   node scripts/bundle.ts [--level 9] [--output dist-bundle]
// Node, Dawn and onnxruntime for this one platform (stripped), the production packages, the compiled program with its benchmark,
// the Vulkan loader, licences and a launcher. The same checkout on the same machine gives the same bytes.

import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { licenceList, type Part, partOfPackage } from './bundle/licence-list.ts'
import { productionPackages } from './bundle/production-packages.ts'
import { vulkanLoader } from './bundle/vulkan-loader.ts'
import { sha256OfFile, writeArchive } from './bundle/write-archive.ts'
import { fetchNode, NODE_VERSION } from './setup.mjs'

const MAX_BYTES = 60 * 2 ** 20

const { values: options } = parseArgs({
  options: { level: { type: 'string', default: '9' }, output: { type: 'string', default: 'dist-bundle' } },
})
const root = join(import.meta.dirname, '..')
const manifest = JSON.parse(fs.readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
const name = `tensorpress-${manifest.version}-linux-x64`
const folder = join(root, options.output)
const stage = join(folder, name)

function run(command: string, args: string[]): void {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
  if (status !== 0) throw new Error(`${command} ${args[0]} ended with ${status ?? error?.message}`)
}

function copy(from: string, to: string): void {
  fs.mkdirSync(dirname(join(stage, to)), { recursive: true })
  fs.cpSync(from, join(stage, to), { recursive: true, dereference: true })
}

function program(): void {
  run(process.execPath, [
    join(root, 'node_modules/typescript/bin/tsc'),
    ...['--project', 'tsconfig.bundle.json', '--outDir', join(stage, 'app')],
  ])
  for (const path of ['bin', 'shaders', 'package.json']) copy(join(root, path), join('app', path))
}

function packages(): Part[] {
  const installed = productionPackages(root)
  for (const { path } of installed) {
    copy(join(root, path), join('app', path))
    // A package inside of another is a row of its own, and may be one of development.
    fs.rmSync(join(stage, 'app', path, 'node_modules'), { recursive: true, force: true })
  }
  run(process.execPath, ['scripts/image/keep-platform.mjs', join(stage, 'app/node_modules'), 'linux', 'x64'])
  return installed.map((entry) => partOfPackage(root, entry))
}

function runtime(): Part[] {
  const node = fetchNode()
  const loader = vulkanLoader()
  copy(node, 'lib/node')
  copy(loader.path, 'lib/vulkan/libvulkan.so.1')
  const licence = fs.readFileSync(join(dirname(node), '..', 'LICENSE'), 'utf8').trim()
  const source = 'https://github.com/nodejs/node'
  return [{ name: 'Node.js', version: NODE_VERSION, licence: 'MIT', source, texts: [licence] }, loader.part]
}

/** Symbols and debugging information of native code: a tenth of it. */
function strip(): void {
  for (const path of fs.readdirSync(stage, { recursive: true, encoding: 'utf8' })) {
    if (/\.(node|so(\.\d+)*)$|^lib\/node$/.test(path)) run('strip', ['--strip-unneeded', join(stage, path)])
  }
}

if (process.platform !== 'linux' || process.arch !== 'x64') throw new Error('the bundle is made on Linux x64')
fs.rmSync(stage, { recursive: true, force: true })
fs.mkdirSync(stage, { recursive: true })
program()
const parts = [...runtime(), ...packages()]
strip()
copy(join(root, 'scripts/bundle/launcher.sh'), 'tensorpress')
copy(join(root, 'scripts/bundle/README.txt'), 'README.txt')
copy(join(root, 'deploy/systemd/tensorpress.service'), 'tensorpress.service')
copy(join(root, 'LICENSE'), 'LICENSE')
fs.writeFileSync(join(stage, 'THIRD_PARTY_LICENSES'), licenceList('this bundle', parts))

const archive = join(folder, `${name}.tar.xz`)
writeArchive(stage, archive, Number(options.level))
fs.rmSync(stage, { recursive: true })
const sizeBytes = fs.statSync(archive).size
const digest = await sha256OfFile(archive)
fs.writeFileSync(`${archive}.sha256`, `${digest}  ${name}.tar.xz\n`)
console.log(`${archive}\n${(sizeBytes / 2 ** 20).toFixed(1)} MiB, sha256 ${digest}, ${parts.length} parts of others`)
if (sizeBytes > MAX_BYTES) throw new Error(`the bundle has ${sizeBytes} bytes, more than the ${MAX_BYTES} it may have`)
