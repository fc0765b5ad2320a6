// SPDX-License-Identifier: Apache-2.0

extension TrainingOptions {
    /// - Throws: `SutureError.invalidArgument` for a setting of sparsity outside its range.
    func validateSparsity() throws {
        for (name, value) in [
            ("l0_coefficient", l0Coefficient), ("l1_coefficient", l1Coefficient), ("bandwidth", bandwidth),
            ("aux_loss_coefficient", auxLossCoefficient),
        ] {
            if let value, !(value >= 1e-20 && value <= 1e20) {
                throw SutureError.invalidArgument("\(name) is \(value), expected a number from 1e-20 to 1e20")
            }
        }
        for (name, value, least) in [
            ("sparsity_warm_up_steps", sparsityWarmUpSteps, 0), ("aux_k", auxK ?? 1, 1),
            ("dead_feature_window", deadFeatureWindow, 1),
        ] where !(least...(1 << 52)).contains(value) {
            throw SutureError.invalidArgument("\(name) is \(value), expected \(least) to 2^52")
        }
        guard auxK == nil || auxLossCoefficient != nil else {
            throw SutureError.invalidArgument(
                "aux_k is \(auxK ?? 0) without aux_loss_coefficient, expected both or neither")
        }
    }

    /// Refuses settings that the architecture has no use for.
    func requireUse(for architecture: Architecture) throws {
        let penalised = ["jumprelu", "relu"]
        let chosen = ["topk", "batchtopk"]
        for (name, isGiven, users) in [
            ("l0_coefficient", l0Coefficient != nil, ["jumprelu"]), ("bandwidth", bandwidth != nil, ["jumprelu"]),
            ("l1_coefficient", l1Coefficient != nil, ["relu"]),
            ("sparsity_warm_up_steps", sparsityWarmUpSteps != 0, penalised),
            ("aux_loss_coefficient", auxLossCoefficient != nil, chosen), ("aux_k", auxK != nil, chosen),
        ] where isGiven && !users.contains(architecture.name) {
            throw SutureError.invalidArgument(
                "\(name) is given for a \(architecture.name) SAE, expected it for \(users.joined(separator: " and ")) only"
            )
        }
    }
}
