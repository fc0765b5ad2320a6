// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

let package = Package(
    name: "StitchExample",
    dependencies: [.package(name: "Suture", path: "../..")],
    targets: [
        .executableTarget(name: "StitchExample", dependencies: [.product(name: "Suture", package: "Suture")])
    ],
    swiftLanguageModes: [.v6]
)
