// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Everything that decides what a trainer does next, in one place: `stateTensors` and `state` are
/// what a checkpoint holds.
extension Trainer {
    struct StateTensor {
        let tensor: NamedTensor
        /// Fills the trainer's memory from a file, exactly.
        let read: (SafetensorsReader) throws -> Void

        init<Element>(_ name: String, _ buffer: Buffer<Element>, _ shape: [Int], _ dtype: Safetensors.DType) {
            tensor = NamedTensor(name, buffer, shape: shape, dtype: dtype)
            read = { try $0.read(name, as: dtype, into: buffer) }
        }
    }

    /// The weights as they are in training, the encoder transposed, and what the optimiser has of them.
    var stateTensors: [StateTensor] {
        let matrix = [dSAE, dIn]
        var tensors: [StateTensor] = []
        for (name, weights, moments, shape) in [
            ("W_enc", encoder, encoderMoments, matrix), ("b_enc", encoderBias, encoderBiasMoments, [dSAE]),
            ("W_dec", decoder, decoderMoments, matrix), ("b_dec", decoderBias, decoderBiasMoments, [dIn]),
        ] {
            tensors.append(StateTensor(name, weights, shape, .float32))
            tensors.append(StateTensor("\(name).first_moment", moments.first, shape, .float32))
            tensors.append(StateTensor("\(name).second_moment", moments.second, shape, .float32))
        }
        if let thresholds = activation.thresholds {
            tensors.append(StateTensor("threshold", thresholds.values, [dSAE], .float32))
            tensors.append(StateTensor("threshold.first_moment", thresholds.moments.first, [dSAE], .float32))
            tensors.append(StateTensor("threshold.second_moment", thresholds.moments.second, [dSAE], .float32))
        }
        if let startScales { tensors.append(StateTensor(Self.startScaleName, startScales, [dSAE], .float32)) }
        tensors.append(StateTensor("last_fired", lastFired, [dSAE], .int64))
        return tensors
    }

    static let stateFormat = 1
    private static let startScaleName = "start_scale"

    /// Settings and counters.
    var state: JSON {
        var members: [(key: String, value: JSON)] = [
            ("format", .integer(Int64(Self.stateFormat))), ("version", .string(sutureVersion)),
            ("kernels", .string(Kernels.name)), ("kernels_before", kernelsBefore.map(JSON.string) ?? .null),
            ("options", options.json), ("architecture", .string(activation.name)), ("d_in", .integer(Int64(dIn))),
            ("d_sae", .integer(Int64(dSAE))), ("steps", .integer(Int64(steps))), ("tokens", .integer(Int64(tokens))),
            (
                "metrics",
                .object([
                    ("pending_steps", .integer(Int64(running.pendingSteps))), ("loss", .number(running.loss)),
                    ("sparsity_loss", .number(running.sparsityLoss)), ("aux_loss", .number(running.auxLoss)),
                    ("pull_loss", .number(running.pullLoss)),
                    ("variance", .number(running.variance)), ("l0", .number(running.l0)),
                    ("seconds", .number(running.seconds)), ("average_loss", .number(running.averageLoss)),
                    ("average_variance", .number(running.averageVariance)), ("flops", .number(running.flops)),
                    ("flops_executed", .number(running.flopsExecuted)),
                ])
            ),
        ]
        members.append(("activation", .object(activation.state.map { ($0.name, .number($0.value)) })))
        members.append(
            ("start", .object([("done", .bool(start.isDone)), ("input_scale", .number(start.inputScale))])))
        if let order {
            members.append(
                (
                    "order",
                    .object([
                        ("rows", .integer(Int64(order.rows))), ("epoch", .integer(Int64(order.epoch))),
                        ("position", .integer(Int64(order.position))),
                    ])
                ))
        }
        if let data {
            members.append(
                ("data", .object([("rows", .integer(Int64(data.rows))), ("hash", .string(String(data.hash)))])))
        }
        return .object(members)
    }

    /// - Throws: `SutureError.format` naming what is missing or cannot be.
    func restore(_ state: JSON, from reader: SafetensorsReader) throws {
        let path = reader.path
        func whole(_ json: JSON?, _ name: String, _ range: ClosedRange<Int> = 0...(1 << 53)) throws -> Int {
            guard let value = json?[name]?.integer, range.contains(value) else {
                throw SutureError.format(
                    "\(path): \(name) is missing, or not \(range.lowerBound) to \(range.upperBound)")
            }
            return value
        }
        func number(_ name: String) throws -> Double {
            guard let value = state["metrics"]?[name]?.double else {
                throw SutureError.format("\(path): the metric \(name) is missing")
            }
            return value
        }
        func hash(_ json: JSON) throws -> UInt64 {
            guard let value = json["hash"]?.string.flatMap({ UInt64($0) }) else {
                throw SutureError.format("\(path): the hash of the data is missing")
            }
            return value
        }
        kernelsBefore = state["kernels"]?.string
        _ = try whole(state, "d_in", dIn...dIn)
        _ = try whole(state, "d_sae", dSAE...dSAE)
        steps = try whole(state, "steps")
        tokens = try whole(state, "tokens")
        running.pendingSteps = try whole(state["metrics"], "pending_steps", 0...steps)
        running.loss = try number("loss")
        running.sparsityLoss = try number("sparsity_loss")
        running.auxLoss = try number("aux_loss")
        // Checkpoints from before there was a pull have none.
        running.pullLoss = state["metrics"]?["pull_loss"]?.double ?? 0
        running.variance = try number("variance")
        running.l0 = try number("l0")
        running.seconds = try number("seconds")
        running.averageLoss = try number("average_loss")
        running.averageVariance = try number("average_variance")
        running.flops = try number("flops")
        running.flopsExecuted = try number("flops_executed")
        guard let done = state["start"]?["done"]?.bool, let scale = state["start"]?["input_scale"]?.double, scale > 0
        else {
            throw SutureError.format("\(path): what training began with is missing")
        }
        (start.isDone, start.inputScale) = (done, scale)
        if let json = state["order"] {
            let rows = try whole(json, "rows", 1...(1 << 53))
            order = TokenOrder(
                rows: rows, dIn: dIn, seed: options.seed, epoch: try whole(json, "epoch"),
                position: try whole(json, "position", 0...rows))
        }
        if let json = state["data"] { data = DataFingerprint(rows: try whole(json, "rows"), hash: try hash(json)) }
        try activation.restore { name in
            guard let value = state["activation"]?[name]?.double, value.isFinite else {
                throw SutureError.format("\(path): the \(name) of the activation is missing")
            }
            return value
        }
        try makeStartScales(reader.entry(Self.startScaleName) != nil)
        for tensor in stateTensors { try tensor.read(reader) }
        if let scales = startScales,
            let bad = (0..<dSAE).first(where: { !(scales.pointer[$0] > 0 && scales.pointer[$0].isFinite) })
        {
            throw SutureError.format(
                "\(path): \(Self.startScaleName)[\(bad)] is \(scales.pointer[bad]), expected a number above 0")
        }
        if let thresholds = activation.thresholds {
            let values = thresholds.values
            guard sk_first_nonfinite_f32(values.pointer, values.count) == values.count else {
                throw SutureError.format("\(path): threshold has elements that are not finite")
            }
            thresholds.project(0..<values.count)
        }
        for latent in 0..<dSAE where !(0...tokens).contains(lastFired.pointer[latent]) {
            throw SutureError.format(
                "\(path): last_fired[\(latent)] is \(lastFired.pointer[latent]), expected 0 to tokens = \(tokens)")
        }
        for (name, buffer) in [("W_enc", encoder), ("b_enc", encoderBias), ("W_dec", decoder), ("b_dec", decoderBias)] {
            let bad = sk_first_nonfinite_f32(buffer.pointer, buffer.count)
            guard bad == buffer.count else {
                throw SutureError.format(
                    "\(path): element \(bad) of \(name) is \(buffer.pointer[bad]), expected finite numbers")
            }
        }
        refreshEncoderCopy()
    }
}
