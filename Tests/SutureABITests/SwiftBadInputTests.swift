// SPDX-License-Identifier: Apache-2.0
import Foundation
import Suture
import Testing

/// What bad input gets in Swift: the same errors as in C, since both come from the same checks. The
/// table covers what a Swift program can reach past the C interface's own checks of arguments; the
/// longer table, of every C function, is in Tests/C/bad_inputs.
struct BadInput: Sendable, CustomTestStringConvertible {
    enum Kind { case invalidArgument, outOfMemory, io, format, unsupported }

    let kind: Kind
    /// What the message must contain: the argument, its value, what was expected.
    let words: [String]
    let testDescription: String
    let call: @Sendable () throws -> Void

    init(
        _ kind: Kind, _ words: String..., what: String, call: @escaping @Sendable () throws -> Void
    ) {
        self.kind = kind
        self.words = words
        testDescription = what
        self.call = call
    }
}

private func matrix(_ rows: Int, _ cols: Int, _ value: Float = 0) throws -> FloatMatrix {
    try FloatMatrix(rows: rows, cols: cols, elements: [Float](repeating: value, count: rows * cols))
}

private func noisy(_ rows: Int, _ cols: Int) throws -> FloatMatrix {
    var noise = Noise(seed: 3)
    return try FloatMatrix(rows: rows, cols: cols, elements: noise.rows(rows * cols))
}

private func moments(dA: Int = 3, dB: Int = 4) throws -> Moments {
    var moments = try Moments(dA: dA, dB: dB)
    try moments.update(a: noisy(30, dA).view, b: noisy(30, dB).view)
    return moments
}

private func stitch() throws -> Stitch {
    try Stitch(upMatrix: noisy(3, 4), upBias: matrix(1, 4), downMatrix: noisy(4, 3), downBias: matrix(1, 3))
}

private func sae(
    _ architecture: Architecture = .topK(k: 2), dIn: Int = 3, normalization: Normalization = .none
) throws -> SAE {
    try SAE(
        encoder: noisy(dIn, 8), encoderBias: matrix(1, 8), decoder: noisy(8, dIn), decoderBias: matrix(1, dIn),
        architecture: architecture, normalization: normalization)
}

private let momentsAndStitches: [BadInput] = [
    BadInput(.invalidArgument, "elements", "5", "2 * 3", what: "too few numbers") {
        _ = try FloatMatrix(rows: 2, cols: 3, elements: [1, 2, 3, 4, 5])
    },
    BadInput(.invalidArgument, "elements", "-1", what: "negative rows") {
        _ = try FloatMatrix(rows: -1, cols: 3, elements: [])
    },
    BadInput(.outOfMemory, "memory", what: "a matrix beyond memory") {
        _ = try FloatMatrix(rows: 1 << 40, cols: 1 << 40) { _ in }
    },
    BadInput(.invalidArgument, "d_a", "0", what: "no coordinates") { _ = try Moments(dA: 0, dB: 4) },
    BadInput(.invalidArgument, "d_b", "-4", what: "negative coordinates") { _ = try Moments(dA: 3, dB: -4) },
    BadInput(.invalidArgument, "d_a", "\(Int.max)", what: "huge coordinates") { _ = try Moments(dA: .max, dB: 4) },
    BadInput(.invalidArgument, "h_a", "5", "3", what: "other width") {
        var moments = try moments()
        try moments.update(a: matrix(2, 5).view, b: matrix(2, 4).view)
    },
    BadInput(.invalidArgument, "h_b", "3", "2", what: "other rows") {
        var moments = try moments()
        try moments.update(a: matrix(2, 3).view, b: matrix(3, 4).view)
    },
    BadInput(.invalidArgument, "h_b", "nan", what: "NaN") {
        var moments = try moments()
        try moments.update(a: matrix(2, 3).view, b: matrix(2, 4, .nan).view)
    },
    BadInput(.invalidArgument, "3", "4", what: "merging other sizes") {
        var moments = try moments()
        try moments.merge(Moments(dA: 4, dB: 4))
    },
    BadInput(.format, what: "moments from nothing") {
        _ = try Moments(serialized: UnsafeRawBufferPointer(start: nil, count: 0))
    },
    BadInput(.format, what: "moments from bytes cut short") {
        try moments().serialized().dropLast().withUnsafeBytes { _ = try Moments(serialized: $0) }
    },
    BadInput(.invalidArgument, "tokens", "0", what: "a fit of nothing") {
        _ = try Stitch.fit(Moments(dA: 3, dB: 4))
    },
    BadInput(.invalidArgument, "alpha", "-1", what: "negative alpha") {
        _ = try Stitch.fit(moments(), options: .init(alpha: -1))
    },
    BadInput(.invalidArgument, "alpha", "nan", what: "alpha NaN") {
        _ = try Stitch.fit(moments(), options: .init(alpha: .nan))
    },
    BadInput(.invalidArgument, "tolerance", "0", what: "no tolerance") {
        _ = try Stitch.fit(moments(), options: .init(tolerance: 0))
    },
    BadInput(.invalidArgument, "max_iterations", "0", what: "no steps") {
        _ = try Stitch.fit(moments(), options: .init(maxIterations: 0))
    },
    BadInput(.invalidArgument, "ridge", "-0.5", what: "negative ridge") {
        _ = try Stitch.fit(moments(), options: .init(ridge: -0.5))
    },
    BadInput(.invalidArgument, "ridge", "procrustes", what: "a ridge for a method without") {
        _ = try Stitch.fit(moments(), options: .init(ridge: 0.5, method: .procrustes))
    },
    BadInput(.invalidArgument, "P_down", "(3, 3)", "(4, 3)", what: "maps that do not fit together") {
        _ = try Stitch(
            upMatrix: noisy(3, 4), upBias: matrix(1, 4), downMatrix: noisy(3, 3), downBias: matrix(1, 3))
    },
    BadInput(.invalidArgument, "h", "4", "d_a = 3", what: "rows of the other model") {
        _ = try stitch().apply(.up, to: matrix(2, 4).view)
    },
    BadInput(.invalidArgument, "h[0, 0]", "inf", what: "infinity") {
        _ = try stitch().apply(.down, to: matrix(2, 4, .infinity).view)
    },
    BadInput(.invalidArgument, "3", "4", what: "objective on other sizes") {
        _ = try stitch().objective(on: moments(dA: 4), alpha: 1)
    },
    BadInput(.invalidArgument, "variance_kept", "1.5", what: "more variance than there is") {
        _ = try moments().svcca(varianceKept: 1.5)
    },
    BadInput(.io, "no/such", what: "no such file") { _ = try Stitch(contentsOf: "/no/such/file.safetensors") },
    BadInput(.io, "null/x", what: "no such folder") { try stitch().save(to: "/dev/null/x") },
    BadInput(.io, "/dev", what: "a folder instead of a file") { _ = try Stitch(contentsOf: "/dev") },
]

private let autoencoders: [BadInput] = [
    BadInput(.invalidArgument, "k", "9", "d_sae = 8", what: "k > d_sae") { _ = try sae(.topK(k: 9)) },
    BadInput(.invalidArgument, "k", "0", what: "k of 0") { _ = try sae(.topK(k: 0)) },
    BadInput(.invalidArgument, "threshold", "nan", what: "threshold NaN") { _ = try sae(.batchTopK(threshold: .nan)) },
    BadInput(.invalidArgument, "threshold", "(1, 7)", "(1, 8)", what: "too few thresholds") {
        _ = try sae(.jumpReLU(threshold: matrix(1, 7)))
    },
    BadInput(.invalidArgument, "b_mag", "(2, 8)", what: "two rows of biases") {
        _ = try sae(.gated(gateBias: matrix(1, 8), magnitudeBias: matrix(2, 8), magnitudeScale: matrix(1, 8)))
    },
    BadInput(.invalidArgument, "scale", "0", what: "scale 0") { _ = try sae(normalization: .fixedScale(0)) },
    BadInput(.invalidArgument, "x", "4", "d_in = 3", what: "rows of another width") {
        _ = try sae().encode(matrix(2, 4).view)
    },
    BadInput(.invalidArgument, "x[0, 0]", "nan", what: "NaN") { _ = try sae().encode(matrix(2, 3, .nan).view) },
    BadInput(.invalidArgument, "x", "4", what: "reconstructing another width") {
        _ = try sae().reconstruct(matrix(2, 4).view)
    },
    BadInput(.invalidArgument, "d_sae", what: "codes of another SAE") {
        _ = try sae().decode(SparseCodes(dSAE: 9, rows: 1, width: 1, indices: [8], values: [1]))
    },
    BadInput(.invalidArgument, "indices[0, 1]", "8", what: "no such latent") {
        _ = try SparseCodes(dSAE: 8, rows: 1, width: 2, indices: [0, 8], values: [1, 1])
    },
    BadInput(.invalidArgument, "d_sae", "-1", what: "negative latents") {
        _ = try SparseCodes(dSAE: -1, rows: 1, width: 1, indices: [0], values: [1])
    },
    BadInput(.invalidArgument, "rows", "-1", what: "negative rows") {
        _ = try SparseCodes(dSAE: 8, rows: -1, width: 1, indices: [0], values: [1])
    },
    BadInput(.unsupported, "gated", what: "no random start for Gated") {
        let row = try matrix(1, 8)
        _ = try SAE.random(
            dIn: 3, dSAE: 8, architecture: .gated(gateBias: row, magnitudeBias: row, magnitudeScale: row), seed: 0)
    },
    BadInput(.invalidArgument, "d_in", "0", what: "a random start without inputs") {
        _ = try SAE.random(dIn: 0, dSAE: 8, architecture: .relu, seed: 0)
    },
    BadInput(.invalidArgument, "d_in", "3", "4", what: "a SAE of A sent down") {
        _ = try stitch().transfer(sae(), direction: .down)
    },
    BadInput(.unsupported, "layer_norm", what: "transfer of a per-token normalisation") {
        _ = try stitch().transfer(sae(normalization: .layerNorm))
    },
    BadInput(.invalidArgument, "other", "small", what: "a SAE of another model") {
        var (stitch, sae) = try (stitch(), sae())
        stitch.metadata["model_a"] = .string("small")
        sae.metadata["model_name"] = .string("other")
        _ = try stitch.transfer(sae)
    },
    BadInput(.invalidArgument, "tokens", what: "a report on nothing") { _ = try Evaluation(sae()).report() },
    BadInput(.invalidArgument, "x[1, 2]", "nan", what: "evaluating NaN") {
        var evaluation = try Evaluation(sae())
        try evaluation.update(FloatMatrix(rows: 2, cols: 3, elements: [0, 1, 2, 3, 4, .nan]).view)
    },
    BadInput(.io, "no/such", what: "no such SAE") { _ = try SAE(folder: "/no/such/sae") },
    BadInput(.io, "null/sae", what: "nowhere to save a SAE") { try sae().save(to: "/dev/null/sae") },
    BadInput(.invalidArgument, "k", what: "training of BatchTopK without k") {
        _ = try Trainer(sae(.batchTopK(threshold: 1)))
    },
    BadInput(.invalidArgument, "l0_coefficient", "relu", what: "an option of JumpReLU for ReLU") {
        var options = TrainingOptions()
        options.l0Coefficient = 1
        _ = try Trainer(sae(.relu), options: options)
    },
    BadInput(.invalidArgument, "lr", "nan", what: "step size NaN") {
        var options = TrainingOptions()
        options.learningRate = .nan
        _ = try Trainer(sae(), options: options)
    },
    BadInput(.invalidArgument, "batch_size", "-1", what: "negative batch") {
        var options = TrainingOptions()
        options.batchSize = -1
        _ = try Trainer(sae(), options: options)
    },
    BadInput(.invalidArgument, "x", "4", "3", what: "a step on another width") {
        _ = try Trainer(sae()).step(matrix(2, 4).view)
    },
    BadInput(.invalidArgument, "inf", what: "a step on infinity") {
        _ = try Trainer(sae()).step(matrix(2, 3, .infinity).view)
    },
    BadInput(.invalidArgument, "x", "\(1 << 57)", "16777216", what: "a step on more rows than memory holds") {
        var x: Float = 0
        _ = try Trainer(sae()).step(MatrixView(base: &x, rows: 1 << 57, cols: 3, rowStride: 3, type: .float32))
    },
    BadInput(.outOfMemory, "codes", what: "codes of more rows than memory holds") {
        var x: Float = 0
        _ = try sae().encode(MatrixView(base: &x, rows: 1 << 57, cols: 3, rowStride: 3, type: .float32))
    },
    BadInput(.invalidArgument, "shard", what: "no shards") { _ = try Trainer(sae()).run([], tokens: 10) },
    BadInput(.invalidArgument, "tokens", "-1", what: "negative tokens") {
        _ = try Trainer(sae()).run([matrix(2, 3).view], tokens: -1)
    },
]

@Suite struct SwiftBadInputTests {
    @Test(arguments: momentsAndStitches + autoencoders) func isRefused(row: BadInput) {
        let error = #expect(throws: SutureError.self) { try row.call() }
        guard let error else { return }
        let kind: BadInput.Kind? =
            switch error {
            case .invalidArgument: .invalidArgument
            case .outOfMemory: .outOfMemory
            case .io: .io
            case .format: .format
            case .unsupported: .unsupported
            case .cancelled, .numerical, .internal: nil
            }
        #expect(kind == row.kind, "\(error)")
        for word in row.words { #expect(error.message.contains(word), "\(error.message)") }
    }
}
