// SPDX-License-Identifier: Apache-2.0

/// The settings by name, as checkpoints hold them: the names of the C configuration.
extension TrainingOptions {
    struct Field {
        let name: String
        let read: (TrainingOptions) -> JSON
        /// False where the value is of another kind.
        let write: (inout TrainingOptions, JSON) -> Bool

        private init<Value>(
            _ name: String, _ path: WritableKeyPath<TrainingOptions, Value>, _ read: @escaping (Value) -> JSON,
            _ parse: @escaping (JSON) -> Value?
        ) {
            self.name = name
            self.read = { read($0[keyPath: path]) }
            write = { options, json in
                guard let value = parse(json) else { return false }
                options[keyPath: path] = value
                return true
            }
        }

        static func whole(_ name: String, _ path: WritableKeyPath<TrainingOptions, Int>) -> Field {
            Field(name, path, { .integer(Int64($0)) }, \.integer)
        }

        static func number(_ name: String, _ path: WritableKeyPath<TrainingOptions, Double>) -> Field {
            Field(name, path, JSON.number, \.double)
        }

        /// Numbers that a JSON reader might round, as text.
        static func bits(_ name: String, _ path: WritableKeyPath<TrainingOptions, UInt64>) -> Field {
            Field(name, path, { .string(String($0)) }, { $0.string.flatMap { UInt64($0) } })
        }

        /// Null for nil.
        static func optionalNumber(_ name: String, _ path: WritableKeyPath<TrainingOptions, Double?>) -> Field {
            Field(name, path, { $0.map(JSON.number) ?? .null }, { $0 == .null ? .some(nil) : $0.double.map { $0 } })
        }

        static func optionalWhole(_ name: String, _ path: WritableKeyPath<TrainingOptions, Int?>) -> Field {
            Field(
                name, path, { $0.map { .integer(Int64($0)) } ?? .null },
                { $0 == .null ? .some(nil) : $0.integer.map { $0 } })
        }

        /// Enumerators, by the word that users write.
        static func word<Value: CaseIterable>(
            _ name: String, _ path: WritableKeyPath<TrainingOptions, Value>, _ word: @escaping (Value) -> String
        ) -> Field {
            Field(name, path, { .string(word($0)) }, { json in Value.allCases.first { word($0) == json.string } })
        }
    }

    /// Every setting once.
    static var fields: [Field] {
        [
            .whole("batch_size", \.batchSize), .number("lr", \.learningRate),
            .word("lr_scheduler", \.learningRateScheduler, \.name),
            .whole("lr_warm_up_steps", \.learningRateWarmUpSteps),
            .number("lr_end", \.learningRateEnd), .whole("total_steps", \.totalSteps), .number("beta1", \.beta1),
            .number("beta2", \.beta2), .number("epsilon", \.epsilon),
            .optionalNumber("max_grad_norm", \.maxGradientNorm),
            .word("decoder_norm", \.decoderNorm, \.name),
            .word("b_dec_init", \.decoderBiasStart, \.name),
            .word("normalize_activations", \.normalizeActivations, \.name),
            .optionalNumber("l0_coefficient", \.l0Coefficient), .optionalNumber("l1_coefficient", \.l1Coefficient),
            .optionalNumber("bandwidth", \.bandwidth), .whole("sparsity_warm_up_steps", \.sparsityWarmUpSteps),
            .optionalNumber("aux_loss_coefficient", \.auxLossCoefficient), .optionalWhole("aux_k", \.auxK),
            .whole("dead_feature_window", \.deadFeatureWindow), .optionalNumber("pull", \.pull), .bits("seed", \.seed),
        ]
    }

    var json: JSON { .object(Self.fields.map { ($0.name, $0.read(self)) }) }

    /// - Parameter name: what the JSON is, for error messages.
    /// - Throws: `SutureError.format` where a setting is missing or of another kind, `.unsupported`
    ///   where there is one that this version does not know.
    init(_ json: JSON?, name: String) throws {
        self.init()
        guard case .object(let members) = json else { throw SutureError.format("\(name) has no settings of training") }
        for field in Self.fields {
            // Checkpoints from before there was a pull.
            let value = json?[field.name] ?? (field.name == "pull" ? .null : nil)
            guard let value, field.write(&self, value) else {
                throw SutureError.format("\(name): the setting \(field.name) is missing or of another kind")
            }
        }
        if let other = members.first(where: { member in !Self.fields.contains { $0.name == member.key } }) {
            throw SutureError.unsupported("\(name) has the setting \(other.key), which this version does not know")
        }
    }
}
