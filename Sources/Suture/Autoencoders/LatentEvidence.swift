// SPDX-License-Identifier: Apache-2.0

/// What is known of the latents of a carried SAE: how far each still is that latent of the SAE it comes
/// from. It goes with the SAE as long as its encoder stays: into its folder, through a fold, a refit of the
/// decoder and a selection; training on leaves it behind, since latents then change.
public struct LatentEvidence: Sendable {
    /// Pairs of rows that the carrying rests on.
    public let rows: Int
    /// Pairs that it did not see, on which latents were compared.
    public let heldOutRows: Int
    /// One a latent, in their order.
    public let latents: [Latent]

    public struct Latent: Sendable {
        /// Which latent of the source SAE this is.
        public var source: Int64 = 0
        /// How often that one fired, of `rows`.
        public var firings: Int64 = 0
        /// Share of its variance that the rows of the target predict linearly; NaN where it does not vary.
        public var rSquared = Double.nan
        /// Of activations in source and target on the held-out pairs; NaN where either never varies.
        public var correlation = Double.nan
        /// Held-out pairs on which it fires in the source, in the target, and in both.
        public var activeA: Int64 = 0
        public var activeB: Int64 = 0
        public var activeBoth: Int64 = 0

        public init() {}
    }

    /// Names and places of what is counted of a latent, in the files and in the C interface.
    public static var counts: [(name: String, path: WritableKeyPath<Latent, Int64>)] {
        [
            ("source_latent", \.source), ("firings", \.firings), ("active_a", \.activeA), ("active_b", \.activeB),
            ("active_both", \.activeBoth),
        ]
    }

    /// The same of what is measured.
    public static var numbers: [(name: String, path: WritableKeyPath<Latent, Double>)] {
        [("r_squared", \.rSquared), ("correlation", \.correlation)]
    }

    /// - Throws: `SutureError.invalidArgument` for numbers that cannot be: negative counts, more firings
    ///   than rows, a correlation beyond -1 to 1.
    public init(rows: Int, heldOutRows: Int, latents: [Latent]) throws {
        for (name, count) in [("rows", rows), ("held_out_rows", heldOutRows)] where count < 0 {
            throw SutureError.invalidArgument("\(name) is \(count), expected at least 0")
        }
        for (index, latent) in latents.enumerated() {
            let most = [
                Int64.max, Int64(rows), Int64(heldOutRows), Int64(heldOutRows), min(latent.activeA, latent.activeB),
            ]
            for (name, count, most) in zip(Self.counts, most).map({ ($0.name, latent[keyPath: $0.path], $1) })
            where count < 0 || count > most {
                throw SutureError.invalidArgument("\(name)[\(index)] is \(count), expected 0 to \(most)")
            }
            for (name, value, least) in [
                ("r_squared", latent.rSquared, -Double.infinity), ("correlation", latent.correlation, -1 - 1e-9),
            ] where value < least || value > 1 + 1e-9 {
                throw SutureError.invalidArgument("\(name)[\(index)] is \(value), expected at most 1, or NaN")
            }
        }
        (self.rows, self.heldOutRows, self.latents) = (rows, heldOutRows, latents)
    }

    /// What carrying by pairs found.
    init(_ report: CarryReport) throws {
        let correlations = report.fidelity.correlations()
        let active = report.fidelity.activeTokens()
        try self.init(
            rows: report.rows, heldOutRows: report.heldOutRows,
            latents: report.firings.indices.map { latent in
                var found = Latent()
                (found.source, found.firings) = (Int64(latent), Int64(report.firings[latent]))
                (found.rSquared, found.correlation) = (report.rSquared[latent], correlations[latent])
                (found.activeA, found.activeB) = (Int64(active.a[latent]), Int64(active.b[latent]))
                found.activeBoth = Int64(active.both[latent])
                return found
            })
    }

    /// Of the chosen latents, in that order.
    func selecting(_ chosen: [Int]) throws -> LatentEvidence {
        try LatentEvidence(rows: rows, heldOutRows: heldOutRows, latents: chosen.map { latents[$0] })
    }
}

// MARK: Files

extension LatentEvidence {
    static let format = "latent_evidence/1"
    private static let rowsKey = "rows"
    private static let heldOutKey = "held_out_rows"
    /// Writes one safetensors file, (d_sae) int64 and float64 tensors, which the caller commits.
    func write(to file: AtomicFile) throws {
        func tensor<Value: BitwiseCopyable>(
            _ name: String, _ path: WritableKeyPath<Latent, Value>, _ type: Safetensors.DType
        ) throws -> NamedTensor {
            let buffer = try Buffer<Value>(count: latents.count, for: "evidence")
            for (index, latent) in latents.enumerated() { buffer.pointer[index] = latent[keyPath: path] }
            return NamedTensor(name, buffer, shape: [latents.count], dtype: type)
        }
        let tensors =
            try Self.counts.map { try tensor($0.name, $0.path, .int64) }
            + Self.numbers.map { try tensor($0.name, $0.path, .float64) }
        let described = Metadata(unique: [
            (Self.rowsKey, .integer(Int64(rows))), (Self.heldOutKey, .integer(Int64(heldOutRows))),
        ])
        try Safetensors.write(tensors, describedBy: described, format: Self.format, to: file)
    }

    /// - Throws: `io` if it cannot be read; `format` if it is damaged or of another number of latents.
    init(contentsOf path: String, dSAE: Int) throws {
        let (file, described) = try Safetensors.read(path, format: Self.format)
        func number(_ key: String) throws -> Int {
            guard let value = described.integer(key) else {
                throw SutureError.format("\(path): \(key) is \(described[key]?.text() ?? "missing"), expected a number")
            }
            return value
        }
        var latents = [Latent](repeating: Latent(), count: dSAE)
        func fill<Value: BitwiseCopyable>(
            _ name: String, _ path: WritableKeyPath<Latent, Value>, _ type: Safetensors.DType
        ) throws {
            let buffer = try Buffer<Value>(count: dSAE, for: "evidence")
            try file.read(name, as: type, into: buffer)
            for index in 0..<dSAE { latents[index][keyPath: path] = buffer.pointer[index] }
        }
        for (name, path) in Self.counts { try fill(name, path, .int64) }
        for (name, path) in Self.numbers { try fill(name, path, .float64) }
        do {
            try self.init(rows: try number(Self.rowsKey), heldOutRows: try number(Self.heldOutKey), latents: latents)
        } catch SutureError.invalidArgument(let message) {
            throw SutureError.format("\(path): \(message)")
        }
    }
}
