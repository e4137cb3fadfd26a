import assert from 'node:assert/strict'
import { test } from 'node:test'
import { missingGpuAdvice, noAdapterAdvice } from '../../src/cli/gpu-advice.ts'

const MANIFEST = '/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json'

test('an NVIDIA GPU with a manifest in an unsearched place gets the variable to set', () => {
  const advice = missingGpuAdvice({ devices: ['nvidia0'], manifests: [MANIFEST] })
  assert.match(advice!, new RegExp(`set VK_DRIVER_FILES=${MANIFEST}\\.$`))
})

test('an NVIDIA GPU without any manifest gets the capability of its container runtime', () => {
  assert.match(missingGpuAdvice({ devices: ['nvidia0'], manifests: [] })!, /NVIDIA_DRIVER_CAPABILITIES=all/)
})

test('another GPU gets the packages of its driver, and no GPU no advice', () => {
  assert.match(missingGpuAdvice({ devices: ['renderD128'], manifests: [] })!, /\/dev\/dri\/renderD128/)
  assert.equal(missingGpuAdvice({ devices: [], manifests: [] }), null)
})

test('without any adapter a checkout is told of its set-up, an installation of the package that helps', () => {
  assert.match(noAdapterAdvice('linux', true), /npm run setup/)
  assert.match(noAdapterAdvice('linux', false), /mesa-vulkan-drivers/)
  assert.doesNotMatch(noAdapterAdvice('linux', false), /npm|checkout/)
  assert.match(noAdapterAdvice('win32', false), /driver of the GPU/)
})
