"""The messages of the Open Inference Protocol over gRPC, from a table in place of generated code.

They live in a pool of their own, so that an application may load another copy of the same protocol beside them.
Source: open_inference_grpc.proto of the protocol (package ``inference``); names and numbers are its.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

# message -> fields "name number type"; * repeated, % a map of parameters, / one of a choice
_MESSAGES = {
    "ServerLiveRequest": [],
    "ServerLiveResponse": ["live 1 bool"],
    "ServerReadyRequest": [],
    "ServerReadyResponse": ["ready 1 bool"],
    "ModelReadyRequest": ["name 1 string", "version 2 string"],
    "ModelReadyResponse": ["ready 1 bool"],
    "ServerMetadataRequest": [],
    "ServerMetadataResponse": ["name 1 string", "version 2 string", "*extensions 3 string"],
    "ModelMetadataRequest": ["name 1 string", "version 2 string"],
    "ModelMetadataResponse": [
        "name 1 string",
        "*versions 2 string",
        "platform 3 string",
        "*inputs 4 .TensorMetadata",
        "*outputs 5 .TensorMetadata",
    ],
    "TensorMetadata": ["name 1 string", "datatype 2 string", "*shape 3 int64"],
    "InferParameter": [
        "/bool_param 1 bool",
        "/int64_param 2 int64",
        "/string_param 3 string",
        "/double_param 4 double",
        "/uint64_param 5 uint64",
    ],
    "InferTensorContents": [
        "*bool_contents 1 bool",
        "*int_contents 2 int32",
        "*int64_contents 3 int64",
        "*uint_contents 4 uint32",
        "*uint64_contents 5 uint64",
        "*fp32_contents 6 float",
        "*fp64_contents 7 double",
        "*bytes_contents 8 bytes",
    ],
    "InferTensor": [
        "name 1 string",
        "datatype 2 string",
        "*shape 3 int64",
        "%parameters 4",
        "contents 5 .InferTensorContents",
    ],
    "InferRequestedOutputTensor": ["name 1 string", "%parameters 2"],
    "ModelInferRequest": [
        "model_name 1 string",
        "model_version 2 string",
        "id 3 string",
        "%parameters 4",
        "*inputs 5 .InferTensor",
        "*outputs 6 .InferRequestedOutputTensor",
        "*raw_input_contents 7 bytes",
    ],
    "ModelInferResponse": [
        "model_name 1 string",
        "model_version 2 string",
        "id 3 string",
        "%parameters 4",
        "*outputs 5 .InferTensor",
        "*raw_output_contents 6 bytes",
    ],
    "RepositoryIndexRequest": ["repository_name 1 string", "ready 2 bool"],
    "RepositoryIndexResponse": ["*models 1 .ModelIndex"],
    "ModelIndex": ["name 1 string", "version 2 string", "state 3 string", "reason 4 string"],
}


def _describe() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="edgewise_oip.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in fields:
            _field(message, name, text)
    return file


def _field(message: descriptor_pb2.DescriptorProto, owner: str, text: str) -> None:
    label = descriptor_pb2.FieldDescriptorProto
    name, number, *kind = text.lstrip("*%/").split()
    field = message.field.add(name=name, number=int(number), label=label.LABEL_OPTIONAL)
    if text[0] in "*%":
        field.label = label.LABEL_REPEATED
    if text[0] == "%":
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        _field(entry, owner, "key 1 string")
        _field(entry, owner, "value 2 .InferParameter")
        kind = [f".{owner}.ParametersEntry"]
    if text[0] == "/":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if kind[0].startswith("."):
        field.type, field.type_name = label.TYPE_MESSAGE, f".{PACKAGE}{kind[0]}"
    else:
        field.type = label.Type.Value(f"TYPE_{kind[0].upper()}")


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_describe())


def message(name: str) -> Any:
    """A message's class."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
